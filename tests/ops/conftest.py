"""Arguments for every packed operator, by name and in the order of its schema."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from hidiff_monai.ops import INSTRUCTION_SETS, packing, reference, status, use_instruction_set

Arguments = dict[str, Any]


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each way to run the operators on this machine."""
    if request.param not in status().available:
        pytest.skip(f"{request.param} is not available here: {status().reason}")
    with use_instruction_set(request.param):
        yield request.param


@pytest.fixture
def make_arguments() -> Callable[..., Arguments]:
    """Takes an operator's name and options of its maker below."""
    makers = {maker.__name__: maker for maker in (pack_signs, binary_conv2d, stem_conv2d, head_conv2d)}
    return lambda operator, **options: makers[operator](**options)


def random_map(*shape: int, is_half: bool = False) -> torch.Tensor:
    return torch.randn(shape).to(torch.float16 if is_half else torch.float32)


def random_bits(batch: int, height: int, width: int, channels: int, border: int) -> torch.Tensor:
    packed = packing.allocate_packed(batch, height, width, channels, border)
    reference.pack_signs(random_map(batch, height, width, channels), torch.zeros(channels), packed)
    return packed


def pack_signs(batch: int = 3, height: int = 4, width: int = 5, channels: int = 40, is_half: bool = False) -> Arguments:
    return {
        "values": random_map(batch, height, width, channels, is_half=is_half),
        "threshold": torch.randn(channels),
        "packed": packing.allocate_packed(batch, height, width, channels, 1),
    }


def binary_conv2d(
    batch: int = 3,
    height: int = 4,
    width: int = 5,
    channels: int = 40,
    outputs: int = 24,
    kernel_size: int = 3,
    stride: int = 1,
    upsample: bool = False,
    extra_channels: int = 20,
    extra_batch: int = 1,
    shortcut_size: str = "same",
    shortcut_channels: int = 24,
    is_half: bool = False,
) -> Arguments:
    """With every optional argument; `extra_channels` 0 is no second source, `shortcut_channels` 0 no shortcut."""
    border, zoom = kernel_size // 2, 2 if upsample else 1
    weights = [torch.randn(outputs, c, kernel_size, kernel_size) for c in (channels, extra_channels) if c]
    rows, columns = ((size * zoom - 1) // stride + 1 for size in (height, width))
    sizes = {"same": (rows, columns), "double": (2 * rows, 2 * columns), "half": (rows // 2, columns // 2)}
    extra = random_bits(extra_batch, height * zoom, width * zoom, extra_channels, border) if extra_channels else None
    shortcut = random_map(batch, *sizes[shortcut_size], shortcut_channels, is_half=is_half)
    return {
        "x": random_bits(batch, height, width, channels, border),
        "weight": packing.pack_weight(weights[0]),
        "extra": extra,
        "extra_weight": None if extra is None else packing.pack_weight(weights[1]),
        "base": packing.border_base(weights),
        "kernel_size": kernel_size,
        "stride": stride,
        "upsample": upsample,
        "scale": torch.randn(outputs),
        "bias": torch.randn(outputs),
        "shortcut": shortcut if shortcut_channels else None,
        "slope": torch.randn(outputs),
        "zeta": torch.randn(outputs),
        "out": torch.zeros_like(random_map(batch, rows, columns, outputs, is_half=is_half)),
        "threshold": torch.randn(outputs),
        "packed": packing.allocate_packed(batch, rows, columns, outputs, 1),
        "skip_threshold": torch.randn(outputs),
        "skip_packed": packing.allocate_packed(batch, rows, columns, outputs, 0),
    }


def stem_conv2d(
    batch: int = 3,
    height: int = 4,
    width: int = 5,
    channels: int = 40,
    targets: int = 2,
    share_batch: int = 1,
    is_half: bool = False,
) -> Arguments:
    share = random_map(share_batch, height, width, channels, is_half=is_half)
    return {
        "signs": torch.randn(batch, targets, height, width).sign(),
        "weight": torch.randn(9, targets, channels),
        "share": share,
        "out": torch.zeros(batch, height, width, channels, dtype=share.dtype),
        "threshold": torch.randn(channels),
        "packed": packing.allocate_packed(batch, height, width, channels, 1),
    }


def head_conv2d(
    batch: int = 3, height: int = 4, width: int = 5, channels: int = 40, targets: int = 2, is_half: bool = False
) -> Arguments:
    return {
        "values": random_map(batch, height, width, channels, is_half=is_half),
        "weight": torch.randn(targets, 9, channels),
        "bias": torch.randn(targets),
        "out": torch.zeros(batch, targets, height, width),
    }
