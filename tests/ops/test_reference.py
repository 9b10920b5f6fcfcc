"""The operators against torch's own layers, in every way to run them, and against each rounding written out."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import hidiff_monai.ops  # noqa: F401  registers the operators
from hidiff_monai.ops import packing

CASES = [
    # in, out, extra, size, kernel, stride, upsample
    (1, 1, 0, (1, 1), 3, 1, False),
    (5, 16, 0, (4, 6), 3, 1, False),
    (16, 17, 5, (5, 7), 3, 1, False),
    (33, 16, 64, (7, 3), 3, 1, False),
    (64, 33, 0, (8, 9), 1, 1, False),
    (17, 64, 1, (1, 5), 1, 1, False),
    (16, 32, 0, (6, 8), 3, 2, False),
    (33, 17, 0, (5, 7), 3, 2, False),
    (5, 5, 5, (1, 1), 3, 2, False),
    (256, 256, 0, (5, 7), 3, 1, False),  # more weights than the nearest cache takes: chunk by chunk
    (160, 96, 130, (3, 5), 3, 1, False),
    (64, 32, 32, (3, 4), 3, 1, True),
    (17, 17, 0, (1, 1), 3, 1, True),
    (33, 66, 16, (2, 5), 3, 1, True),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


class Layer(NamedTuple):
    """One convolution: its signs as floats (NCHW), and the arguments of the operator that say the same."""

    value: torch.Tensor  # sums of signs, (B, O, H', W')
    arguments: tuple
    channels: int
    size: tuple[int, int]


def pack(signs: torch.Tensor, border: int) -> torch.Tensor:
    """(B, C, H, W) in {-1, +1}."""
    packed = packing.allocate_packed(len(signs), *signs.shape[2:], signs.shape[1], border)
    packing.crop_border(packed, border).copy_(packing.pack_bits(signs.permute(0, 2, 3, 1) > 0))
    return packed


def draw_signs(*shape: int) -> torch.Tensor:
    return torch.randint(2, shape) * 2.0 - 1


def make_layer(case: tuple, batch: int = 4, images: int = 2, fill: float | None = None) -> Layer:
    channels, outputs, extras, size, kernel, stride, upsample = case
    border = kernel // 2
    weights = [draw_signs(outputs, number, kernel, kernel) for number in (channels, extras) if number]
    x = draw_signs(batch, channels, *size) if fill is None else torch.full((batch, channels, *size), fill)
    whole = F.interpolate(x, scale_factor=2.0) if upsample else x
    value = F.conv2d(whole, weights[0], stride=stride, padding=border)
    extra = extra_weight = None
    if extras:
        side = draw_signs(images, extras, *whole.shape[2:])
        extra, extra_weight = pack(side, border), packing.pack_weight(weights[1])
        value = value + F.conv2d(side, weights[1], stride=stride, padding=border).repeat(batch // images, 1, 1, 1)
    base = packing.border_base(weights)
    arguments = (
        pack(x, border),
        packing.pack_weight(weights[0]),
        extra,
        extra_weight,
        base,
        kernel,
        stride,
        upsample,
    )
    return Layer(value, arguments, outputs, tuple(value.shape[2:]))


def run(layer: Layer, scale=None, bias=None, shortcut=None, slope=None, zeta=None, dtype=torch.float32, border=1):
    """The operator -> out (NCHW), bits and skip bits as signs (NHWC), with their thresholds."""
    batch, channels, size = len(layer.value), layer.channels, layer.size
    scale = torch.ones(channels) if scale is None else scale
    bias = torch.zeros(channels) if bias is None else bias
    out = torch.empty(batch, *size, channels, dtype=dtype)
    thresholds = [torch.randn(channels), torch.randn(channels) * 3]
    maps = [packing.allocate_packed(batch, *size, channels, border) for _ in range(2)]
    torch.ops.hidiff_monai.binary_conv2d(
        *layer.arguments, scale, bias, shortcut, slope, zeta, out, thresholds[0], maps[0], thresholds[1], maps[1]
    )
    return out.permute(0, 3, 1, 2), maps, thresholds


@every_case
def test_sums_of_signs_are_exact(case: tuple, instruction_set: str) -> None:
    layer = make_layer(case)
    assert torch.equal(run(layer)[0], layer.value)


@every_case
@pytest.mark.parametrize("fill", [-1.0, 1.0])
def test_equal_signs_everywhere(case: tuple, fill: float, instruction_set: str) -> None:
    layer = make_layer(case, fill=fill)
    assert torch.equal(run(layer)[0], layer.value)


@every_case
def test_batchnorm_and_prelu_follow(case: tuple, instruction_set: str) -> None:
    layer = make_layer(case)
    norm, slope = torch.nn.BatchNorm2d(layer.channels).eval(), torch.rand(layer.channels)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(1, 9)
    zeta = torch.randn(layer.channels)
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias.detach() - norm.running_mean * scale
    expected = F.prelu(norm(layer.value), slope).detach() + zeta[:, None, None]
    out, maps, thresholds = run(layer, scale, bias, slope=slope, zeta=zeta, border=0)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    check_bits(out, maps, thresholds, 0)


def check_bits(out: torch.Tensor, maps: list[torch.Tensor], thresholds: list[torch.Tensor], border: int) -> None:
    """Bits are those of out > threshold, and the border is empty."""
    for packed, threshold in zip(maps, thresholds, strict=True):
        bits = packing.pack_bits(out.permute(0, 2, 3, 1) > threshold)
        assert torch.equal(packing.crop_border(packed, border), bits)
        assert packed.count_nonzero() == bits.count_nonzero()


@every_case
@pytest.mark.parametrize("scale", ["same", "double", "half"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_shortcuts_of_every_size_and_width(case: tuple, scale: str, dtype: torch.dtype, instruction_set: str) -> None:
    layer = make_layer(case)
    height, width = layer.size
    if scale == "half" and (height % 2 or width % 2):
        height, width = 2 * height, 2 * width  # no shortcut has half of an odd size
        scale = "double"
    else:
        factor = {"same": 1.0, "double": 2.0, "half": 0.5}[scale]
        height, width = int(height * factor), int(width * factor)
    o = layer.channels
    for channels in {o, 3 * o, 4 * o, o // 2 if o % 2 == 0 else 1, o // 3 if o % 3 == 0 else 1}:
        shortcut = torch.randn(len(layer.value), height, width, channels).to(dtype)
        q = shortcut.float().permute(0, 3, 1, 2)
        if scale == "double":
            q = F.avg_pool2d(q, 2)
        elif scale == "half":
            q = F.interpolate(q, scale_factor=2.0)
        if channels < o:
            q = q.repeat(1, o // channels, 1, 1)
        elif channels > o:
            q = q.unflatten(1, [o, -1]).mean(2)
        out, maps, thresholds = run(layer, shortcut=shortcut)
        torch.testing.assert_close(out, layer.value + q, rtol=1e-5, atol=1e-5)
        check_bits(out, maps, thresholds, 1)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_in_place_and_without_out(case: tuple, dtype: torch.dtype, instruction_set: str) -> None:
    layer = make_layer(case)
    stream = torch.randn(len(layer.value), *layer.size, layer.channels).to(dtype)
    expected, maps, thresholds = run(layer, shortcut=stream, dtype=dtype)
    ones, nothing = torch.ones(layer.channels), torch.zeros(layer.channels)
    bits = torch.zeros_like(maps[0])
    arguments = (*layer.arguments, ones, nothing, stream, None, None)
    torch.ops.hidiff_monai.binary_conv2d(*arguments, None, thresholds[0], bits, None, None)
    assert torch.equal(bits, maps[0])
    bits.zero_()
    torch.ops.hidiff_monai.binary_conv2d(*arguments, stream, None, None, thresholds[1], bits)
    assert torch.equal(bits, maps[1]) and torch.equal(stream, expected.permute(0, 2, 3, 1))


@every_case
def test_a_value_on_its_threshold_is_minus_one(case: tuple, instruction_set: str) -> None:
    """Sums of signs are whole numbers, and so are these thresholds."""
    layer = make_layer(case)
    bits = packing.allocate_packed(len(layer.value), *layer.size, layer.channels, 1)
    values = layer.value.permute(0, 2, 3, 1)
    ones, nothing = torch.ones(layer.channels), torch.zeros(layer.channels)
    for threshold in (values[0, 0, 0], values[-1, -1, -1], values.flatten(0, 2).amax(0), values.flatten(0, 2).amin(0)):
        bits.fill_(-1)  # border and all
        torch.ops.hidiff_monai.binary_conv2d(
            *layer.arguments, ones, nothing, None, None, None, None, threshold.contiguous(), bits, None, None
        )
        assert torch.equal(packing.crop_border(bits, 1), packing.pack_bits(values > threshold))
        assert (bits[:, [0, -1]] == -1).all() and (bits[:, :, [0, -1]] == -1).all()  # it is not written to


def test_autocast_changes_nothing(instruction_set: str) -> None:
    layer = make_layer((600, 8, 0, (4, 4), 3, 1, False), fill=1.0)  # sums beyond what half precisions hold
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(layer)[0], layer.value)


def test_every_rounding_of_a_binary_convolution(instruction_set: str) -> None:
    """Bit for bit, written out with NumPy's float32: a product and a sum are rounded apart."""
    layer = make_layer((7, 12, 0, (3, 4), 3, 1, False))
    scale, bias, slope, zeta = (torch.randn(12) for _ in range(4))
    shortcut = torch.randn(4, 6, 8, 36)
    q = shortcut.numpy().reshape(4, 3, 2, 4, 2, 12, 3)
    pooled = (((q[:, :, 0, :, 0] + q[:, :, 0, :, 1]) + q[:, :, 1, :, 0]) + q[:, :, 1, :, 1]) * np.float32(0.25)
    mean = ((pooled[..., 0] + pooled[..., 1]) + pooled[..., 2]) * np.float32(1 / 3)
    v = layer.value.permute(0, 2, 3, 1).numpy() * scale.numpy()
    v = v + bias.numpy()
    v = v + mean
    v = np.where(v > 0, v, v * slope.numpy())
    v = v + zeta.numpy()
    assert v.dtype == np.float32
    for dtype in (torch.float32, torch.float16):
        out, maps, thresholds = run(layer, scale, bias, shortcut, slope, zeta, dtype)
        assert torch.equal(out.permute(0, 2, 3, 1), torch.from_numpy(v).to(dtype))
        check_bits(torch.from_numpy(v).permute(0, 3, 1, 2), maps, thresholds, 1)


@pytest.mark.parametrize("channels", [1, 5, 16, 17, 33, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("border", [0, 1])
def test_pack_signs(channels: int, dtype: torch.dtype, border: int, instruction_set: str) -> None:
    values, threshold = torch.randn(2, 3, 4, channels).to(dtype), torch.randn(channels)
    values[0, 0, 0] = threshold.to(dtype)
    values[1, 1, 1] = float("nan")
    packed = packing.allocate_packed(2, 3, 4, channels, border)
    torch.ops.hidiff_monai.pack_signs(values, threshold, packed)
    check_bits(values.float().permute(0, 3, 1, 2), [packed], [threshold], border)


@pytest.mark.parametrize("targets", [1, 4])
@pytest.mark.parametrize("channels", [1, 16, 33])
@pytest.mark.parametrize("size", [(1, 1), (5, 2), (6, 7)])
def test_stem_is_a_convolution_beside_a_share(
    targets: int, channels: int, size: tuple[int, int], instruction_set: str
) -> None:
    signs, weight = draw_signs(6, targets, *size), torch.randn(9, targets, channels)
    for dtype in (torch.float32, torch.float16):
        share = torch.randn(3, *size, channels).to(dtype)
        kernel = weight.unflatten(0, [3, 3]).permute(3, 2, 0, 1)
        expected = F.conv2d(signs, kernel, padding=1) + share.float().permute(0, 3, 1, 2).repeat(2, 1, 1, 1)
        packed, threshold = packing.allocate_packed(6, *size, channels, 1), torch.randn(channels)
        out = torch.empty(6, *size, channels)
        torch.ops.hidiff_monai.stem_conv2d(signs, weight, share, out, threshold, packed)
        torch.testing.assert_close(out.permute(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5)
        check_bits(out.permute(0, 3, 1, 2), [packed], [threshold], 1)


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("channels", [1, 16, 33, 64])
@pytest.mark.parametrize("size", [(1, 1), (5, 2), (6, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_head_is_a_convolution(
    targets: int, channels: int, size: tuple[int, int], dtype: torch.dtype, instruction_set: str
) -> None:
    values = torch.randn(2, *size, channels).to(dtype)
    weight, bias = torch.randn(targets, 9, channels), torch.randn(targets)
    out = torch.empty(2, targets, *size)
    torch.ops.hidiff_monai.head_conv2d(values, weight, bias, out)
    kernel = weight.unflatten(1, [3, 3]).permute(0, 3, 1, 2)
    expected = F.conv2d(values.float().permute(0, 3, 1, 2), kernel, bias, padding=1)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_every_rounding_of_the_ends(instruction_set: str) -> None:
    """Bit for bit, one pixel in the middle of a 3x3 image, with NumPy's float32."""
    channels, targets = 37, 2
    signs, weight, share = (
        torch.randn(1, targets, 3, 3),
        torch.randn(9, targets, channels),
        torch.randn(1, 3, 3, channels),
    )
    out = torch.empty(1, 3, 3, channels)
    packed = packing.allocate_packed(1, 3, 3, channels, 1)
    torch.ops.hidiff_monai.stem_conv2d(signs, weight, share, out, torch.zeros(channels), packed)
    v = share[0, 1, 1].numpy()
    for tap in range(9):
        for k in range(targets):
            v = v + signs[0, k, tap // 3, tap % 3].numpy() * weight[tap, k].numpy()
    assert np.array_equal(out[0, 1, 1].numpy(), v)

    weight, bias, head = torch.randn(targets, 9, channels), torch.randn(targets), torch.empty(1, targets, 3, 3)
    torch.ops.hidiff_monai.head_conv2d(out, weight, bias, head)
    for k in range(targets):
        value = bias[k].numpy()
        for tap in range(9):
            products = np.zeros(48, np.float32)
            products[:channels] = out[0, tap // 3, tap % 3].numpy() * weight[k, tap].numpy()
            lanes = np.zeros(16, np.float32)
            for j in range(3):
                lanes = lanes + products[16 * j : 16 * j + 16]
            for half in (8, 4, 2, 1):
                lanes = lanes[:half] + lanes[half : 2 * half]
            value = value + lanes[0]
        assert head[0, k, 1, 1].numpy() == value
