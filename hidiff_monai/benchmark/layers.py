"""Layer by layer: packed against float32, bfloat16 and int8 convolutions of the same signs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from hidiff_monai import ops
from hidiff_monai.benchmark.clock import measure_clock_hz
from hidiff_monai.benchmark.heap import tune_heap
from hidiff_monai.benchmark.layer_shapes import CYCLES_PER_VECTOR, Layer, choose_layers
from hidiff_monai.benchmark.settings import Settings, Unit, count
from hidiff_monai.benchmark.timing import interleave, thread_count
from hidiff_monai.environment import read_processor
from hidiff_monai.networks.folded_layers import dense_layer
from hidiff_monai.networks.folding import FoldedLayer
from hidiff_monai.networks.packed_layers import PackedConv
from hidiff_monai.ops.packing import allocate_packed

PACKED, FP32, PREPACKED, BLOCK, BF16, INT8 = "packed", "fp32", "fp32 prepacked", "fp32 block", "bf16", "int8"
CONVOLUTIONS = (FP32, PREPACKED)  # the float32 convolution alone; the faster one is the baseline
ENGINES = ("x86", "onednn", "fbgemm", "qnnpack")

Call = Callable[[], object]


def plan_layers(settings: Settings) -> Iterator[Unit]:
    """Every layer with every number of threads."""
    for threads in settings.threads:
        for layer in choose_layers(settings.width, settings.image_size):
            yield Unit(f"layers/{threads} threads/{layer.name}", partial(measure_layer, layer, threads, settings))


@torch.no_grad()
def measure_layer(layer: Layer, threads: int, settings: Settings) -> dict[str, Any]:
    """One layer: its `Measurement` and the limit of its arithmetic, plain."""
    tune_heap()  # else the outputs of the large convolutions are mapped anew every time, and packed's are not
    with thread_count(threads):
        measured = interleave(make_candidates(layer), settings.limits, f"{layer.name}, {count(threads, 'thread')}")
    cycles = CYCLES_PER_VECTOR.get(read_processor().family or "") if ops.status().instruction_set == "avx512" else None
    clock_hz = None if cycles is None else measure_clock_hz()
    baseline = measured.fastest([name for name in CONVOLUTIONS if name in measured.names])
    return {
        "part": "layers",
        "name": layer.name,
        "threads": threads,
        "kernel_size": layer.kernel_size,
        "size": layer.size,
        "stride": layer.stride,
        "width": settings.width,
        "image_size": settings.image_size,
        "multiply_adds": layer.multiply_adds,
        "baseline": baseline,
        "speedups": {name: measured.speedup(PACKED, name) for name in measured.names if name != PACKED},
        "clock_hz": clock_hz,
        "limit_s": None if cycles is None or clock_hz is None else layer.limit_s(cycles, clock_hz, threads),
        **measured.to_dict(),
    }


def make_candidates(layer: Layer, seed: int = 0) -> dict[str, Call]:
    """Calls on one image. Only `packed` and `fp32 block` do all of the layer's work; the others convolve, no more."""
    generator = torch.Generator().manual_seed(seed)
    folded = layer.draw_folded(generator)
    maps = [torch.randn(1, layer.in_size, layer.in_size, layer.in_channels, generator=generator)]
    if layer.extra_channels:
        maps.append(torch.randn(1, layer.size, layer.size, layer.extra_channels, generator=generator))
    x, w = _dense_signs(layer, folded, maps), folded.weight.contiguous(memory_format=torch.channels_last)
    convolve = partial(F.conv2d, stride=layer.stride, padding=layer.kernel_size // 2)
    candidates: dict[str, Call | None] = {
        PACKED: _packed(layer, folded, maps),
        FP32: partial(convolve, x, w),
        PREPACKED: _prepacked(layer, x, w),
        BLOCK: _whole_block(layer, folded, maps),
        BF16: partial(convolve, x.bfloat16(), w.bfloat16()),
        INT8: _quantized(layer, x, w),
    }
    return {name: call for name, call in candidates.items() if call is not None}


def _packed(layer: Layer, folded: FoldedLayer, maps: list[torch.Tensor]) -> Call:
    """The operator as `PackedRefiner` calls it: bits in; the stream and the next layer's bits out."""
    border, channels, size = layer.kernel_size // 2, layer.out_channels, layer.size
    conv = PackedConv(
        layer.in_channels, channels, 1, layer.kernel_size, layer.stride, layer.upsamples, layer.extra_channels,
        activates=folded.slope is not None,
    )  # fmt: skip
    conv.fill(folded)
    bits = []
    for values, threshold in zip(maps, (conv.threshold[0], conv.extra_threshold[0]), strict=False):
        bits.append(allocate_packed(1, values.shape[1], values.shape[2], values.shape[3], border))
        torch.ops.hidiff_monai.pack_signs(values, threshold, bits[-1])
    stream = maps[0].clone()
    is_in_place = stream.shape == (1, size, size, channels)
    out = stream if is_in_place else stream.new_zeros(1, size, size, channels)
    zeta = None if conv.zeta is None else conv.zeta[0]
    return partial(
        torch.ops.hidiff_monai.binary_conv2d, bits[0], conv.weight, bits[1] if len(bits) > 1 else None,
        conv.extra_weight, conv.base, conv.kernel_size, conv.stride, conv.upsamples, conv.scale, conv.bias[0],
        stream if layer.has_shortcut else None, conv.slope, zeta, out if layer.keeps_stream else None,
        torch.full((channels,), -0.3), allocate_packed(1, size, size, channels, border), None, None,
    )  # fmt: skip


def _whole_block(layer: Layer, folded: FoldedLayer, maps: list[torch.Tensor]) -> Call:
    """As in `FoldedRefiner`: signs, convolution, scale, shortcut and activation, all of it float32."""
    dense = dense_layer(folded, stride=layer.stride, upsamples=layer.upsamples)
    streams = [values.permute(0, 3, 1, 2) for values in maps]  # channels last
    shortcut = None
    if layer.has_shortcut:
        size = layer.in_size if layer.upsamples else layer.size
        shortcut = maps[0].new_zeros(1, size, size, layer.out_channels).permute(0, 3, 1, 2)
    return partial(dense, streams[0], torch.zeros(1, dtype=torch.long), shortcut, *streams[1:])


def _dense_signs(layer: Layer, folded: FoldedLayer, maps: list[torch.Tensor]) -> torch.Tensor:
    """What is convolved, enlarged and joined already: (1, C, H, W) in {-1, +1}, channels last."""
    assert folded.threshold is not None
    own = maps[0]
    if layer.upsamples:
        own = own.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    joined = torch.cat([own, *maps[1:]], dim=3)
    return ((joined > folded.threshold).float() * 2 - 1).permute(0, 3, 1, 2)


def _prepacked(layer: Layer, x: torch.Tensor, w: torch.Tensor) -> Call | None:
    """oneDNN with its weights in its own order beforehand; None where this torch has no such operator."""
    reorder = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
    if reorder is None or not torch.backends.mkldnn.is_available():
        return None
    padding, stride, dilation = [layer.kernel_size // 2] * 2, [layer.stride] * 2, [1, 1]
    ordered = reorder(w.to_mkldnn(), padding, stride, dilation, 1, list(x.shape))
    convolve = torch.ops.mkldnn._convolution_pointwise
    return partial(convolve, x, ordered, None, padding, stride, dilation, 1, "none", [], None)


def _quantized(layer: Layer, x: torch.Tensor, w: torch.Tensor) -> Call | None:
    """int8 with the best engine of this build; None where it has none."""
    engine = next((name for name in ENGINES if name in torch.backends.quantized.supported_engines), None)
    if engine is None:
        return None
    torch.backends.quantized.engine = engine
    stride, padding = [layer.stride] * 2, [layer.kernel_size // 2] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantized tensors will move to another package
        signs = torch.quantize_per_tensor(x, 1.0, 1, torch.quint8)
        weight = torch.quantize_per_tensor(w, 1.0, 0, torch.qint8)
        prepared = torch.ops.quantized.conv2d_prepack(weight, None, stride, padding, [1, 1], 1)
    return partial(torch.ops.quantized.conv2d, signs, prepared, 16.0, 128)
