"""The packed operators in plain PyTorch: the fallback on every machine, and what the compiled ones equal bit for bit.

Every operator writes into tensors that it is given. Products and sums are rounded one by one, in float32 and in the
order that each docstring states; a convolution of signs is a whole number below 2^24 and exact in any order.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from hidiff_monai.ops.checks import check_binary_conv2d, check_head_conv2d, check_pack_signs, check_stem_conv2d
from hidiff_monai.ops.packing import LANES, WORD_BITS, crop_border, pack_bits, unpack_signs, unpack_weight


def pack_signs(values: torch.Tensor, threshold: torch.Tensor, packed: torch.Tensor) -> None:
    """Writes the bits values > threshold.

    Args:
        values: (B, H, W, C), float32 or float16.
        threshold: (C,) float32.
        packed: (B, H + 2p, W + 2p, words) int32, p 0 or 1; its border is left as it is.
    """
    check_pack_signs(values, threshold, packed)
    _write_bits(values.float(), threshold, packed)


@torch.no_grad()
def binary_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    extra: torch.Tensor | None,
    extra_weight: torch.Tensor | None,
    base: torch.Tensor,
    kernel_size: int,
    stride: int,
    upsample: bool,
    scale: torch.Tensor,
    bias: torch.Tensor,
    shortcut: torch.Tensor | None,
    slope: torch.Tensor | None,
    zeta: torch.Tensor | None,
    out: torch.Tensor | None,
    threshold: torch.Tensor | None,
    packed: torch.Tensor | None,
    skip_threshold: torch.Tensor | None,
    skip_packed: torch.Tensor | None,
) -> None:
    """Convolves signs with signs, with scale, bias, shortcut and activation, and binarizes for the next layers.

    s = base[class] - 2 popcount; v = s * scale; v = v + bias; v = v + shortcut; v = v > 0 ? v : v * slope;
    v = v + zeta; packed = v > threshold; skip_packed = v > skip_threshold; out = v.

    Args:
        x: packed map of (B, H, W), replicated to (B, 2H, 2W) with ``upsample``.
        weight: packed, see `packing`.
        extra: packed map at the size of x, a second source; image n reads extra[n % len(extra)].
        extra_weight: its packed weight.
        base: (16, O) int32, see `border_base`.
        kernel_size: 3 with zero padding 1, or 1.
        stride: 1, or 2 with kernel size 3.
        upsample: nearest x2 before the convolution; kernel size 3 and stride 1 only.
        scale: (O,) float32.
        bias: (O,) float32.
        shortcut: (B, h, w, C) float32 or float16, at the size of the result, twice (mean of 2x2) or half (nearest x2);
            channels are repeated, or the mean of adjacent ones.
        slope: (O,) float32.
        zeta: (O,) float32.
        out: (B, H', W', O) float32 or float16; may be the shortcut, where that has its size.
        threshold: (O,) float32.
        packed: packed map of (B, H', W').
        skip_threshold: (O,) float32.
        skip_packed: packed map of (B, H', W').
    """
    check_binary_conv2d(x, weight, extra, extra_weight, base, kernel_size, stride, upsample, scale, bias, shortcut,
                        slope, zeta, out, threshold, packed, skip_threshold, skip_packed)  # fmt: skip
    v = _convolve(x, weight, len(scale), stride, upsample)
    fillings = weight.shape[1] * weight.shape[2] * WORD_BITS
    if extra is not None and extra_weight is not None:
        v.unflatten(0, [-1, len(extra)]).add_(_convolve(extra, extra_weight, len(scale), stride, False))
        fillings += extra_weight.shape[1] * extra_weight.shape[2] * WORD_BITS
    p = kernel_size // 2
    size = [(n - 2 * p) * (2 if upsample else 1) for n in x.shape[1:3]]
    v.add_((base - fillings)[_border_classes(size, stride, x.device) if p else 0])
    v.mul_(scale).add_(bias)
    if shortcut is not None:
        v.add_(_match_shortcut(shortcut, v.shape))
    if slope is not None:
        v = torch.where(v > 0, v, v * slope)
    if zeta is not None:
        v.add_(zeta)
    if packed is not None and threshold is not None:
        _write_bits(v, threshold, packed)
    if skip_packed is not None and skip_threshold is not None:
        _write_bits(v, skip_threshold, skip_packed)
    if out is not None:
        out.copy_(v)


@torch.no_grad()
def stem_conv2d(
    signs: torch.Tensor,
    weight: torch.Tensor,
    share: torch.Tensor,
    out: torch.Tensor | None,
    threshold: torch.Tensor,
    packed: torch.Tensor,
) -> None:
    """Adds the 3x3 convolution of y_t to what the image and the prior gave, and binarizes for the first layer.

    v = share; for every tap, row by row, and every target k: v = v + signs * weight. Taps outside are left out.

    Args:
        signs: 2 y_t - 1, (B, K, H, W) float32.
        weight: (9, K, C) float32.
        share: (B', H, W, C) float32 or float16; image n reads share[n % B'].
        out: (B, H, W, C) float32 or float16.
        threshold: (C,) float32.
        packed: packed map of (B, H, W).
    """
    check_stem_conv2d(signs, weight, share, out, threshold, packed)
    v = share.float().repeat(len(signs) // len(share), 1, 1, 1)
    height, width = signs.shape[2:]
    for tap in range(9):
        (rows, source_rows), (columns, source_columns) = _inside(tap // 3, height), _inside(tap % 3, width)
        target = v[:, rows, columns]
        for k in range(signs.shape[1]):
            target.add_(signs[:, k, source_rows, source_columns, None] * weight[tap, k])
    _write_bits(v, threshold, packed)
    if out is not None:
        out.copy_(v)


@torch.no_grad()
def head_conv2d(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    """The output's 3x3 convolution, with zero padding.

    out = bias; for every tap, row by row: out = out + dot(tap). Each of 16 lanes of a dot product adds up every 16th
    channel, from 0; then the upper half of the lanes is added to the lower, four times.

    Args:
        values: (B, H, W, C) float32 or float16.
        weight: (K, 9, C) float32.
        bias: (K,) float32.
        out: (B, K, H, W) float32.
    """
    check_head_conv2d(values, weight, bias, out)
    fill = -values.shape[3] % LANES
    padded, taps = F.pad(values.float(), [0, fill]), F.pad(weight, [0, fill])
    out.copy_(bias[:, None, None].expand_as(out))
    height, width = values.shape[1:3]
    for k in range(len(weight)):
        for tap in range(9):
            (rows, source_rows), (columns, source_columns) = _inside(tap // 3, height), _inside(tap % 3, width)
            out[:, k, rows, columns].add_(_dot(padded[:, source_rows, source_columns], taps[k, tap]))


def _dot(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(..., C), (C,) -> (...): C a multiple of 16."""
    products = (values * weight).unflatten(-1, [-1, LANES])
    lanes = torch.zeros_like(products[..., 0, :])
    for j in range(products.shape[-2]):
        lanes.add_(products[..., j, :])
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def _inside(offset: int, size: int) -> tuple[slice, slice]:
    """Of one axis: the pixels whose tap at ``offset`` (0, 1, 2) lies inside, and the pixels that it reads."""
    shift = offset - 1
    start, stop = max(0, -shift), size - max(0, shift)
    return slice(start, stop), slice(start + shift, stop + shift)


def _convolve(x: torch.Tensor, weight: torch.Tensor, channels: int, stride: int, upsample: bool) -> torch.Tensor:
    """32 k k words - 2 popcount, (B, H', W', O) float32: border and filling count as -1 here."""
    if upsample:
        inner = crop_border(x, 1).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        x = F.pad(inner, [0, 0, 1, 1, 1, 1])
    signs = unpack_signs(x).permute(0, 3, 1, 2)  # channels last
    kernel = unpack_weight(weight, channels).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, enabled=False):
        result = F.conv2d(signs, kernel, stride=stride)
    return result.permute(0, 2, 3, 1).contiguous().round_()  # a fast algorithm may be off by less than a half


def _border_classes(size: list[int], stride: int, device: torch.device) -> torch.Tensor:
    """The class of every pixel of a 3x3 convolution's result, (H', W'): see `border_base`."""
    edges = []
    for length in size:
        centre = torch.arange(0, length, stride, device=device)
        edges.append((centre == 0).long() + 2 * (centre == length - 1).long())
    return 4 * edges[0][:, None] + edges[1]


def _match_shortcut(shortcut: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The shortcut at the size and channels of a result, (B, H', W', O) float32."""
    q = shortcut.float()
    if q.shape[1] > shape[1]:
        q = q.unflatten(2, [-1, 2]).unflatten(1, [-1, 2])  # (B, H', 2, W', 2, C)
        q = (q[:, :, 0, :, 0] + q[:, :, 0, :, 1] + q[:, :, 1, :, 0] + q[:, :, 1, :, 1]) * 0.25
    elif q.shape[1] < shape[1]:
        q = q.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    if q.shape[3] < shape[3]:
        return q.repeat(1, 1, 1, shape[3] // q.shape[3])
    if q.shape[3] > shape[3]:
        adjacent = q.unflatten(3, [shape[3], -1])
        q = adjacent[..., 0]
        for i in range(1, adjacent.shape[4]):
            q = q + adjacent[..., i]
        q = q * (1 / adjacent.shape[4])
    return q


def _write_bits(values: torch.Tensor, threshold: torch.Tensor, packed: torch.Tensor) -> None:
    border = (packed.shape[1] - values.shape[1]) // 2
    crop_border(packed, border).copy_(pack_bits(values > threshold))
