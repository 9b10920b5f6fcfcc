"""Signs in bits: 32 channels to an int32, bit i of word j is channel 32 j + i, 1 means +1 and 0 means -1.

A packed map is (B, H + 2p, W + 2p, words): p border pixels on every side, 1 for a 3x3 convolution, 0 for a linear
layer. The border and the bits from C on are 0. A packed weight is (ceil(O / 16), k k, words, 16): 16 output channels
side by side, taps row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

WORD_BITS = 32
LANES = 16  # output channels that a packed weight holds side by side
BORDER_CLASSES = 16


def count_words(channels: int) -> int:
    """Words that hold the signs of so many channels."""
    return -(-channels // WORD_BITS)


def border_of(kernel_size: int) -> int:
    """Width p of the border that a convolution reads beyond the map."""
    return kernel_size // 2


def allocate_packed(
    batch: int, height: int, width: int, channels: int, border: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """A packed map of zeros, (B, H + 2p, W + 2p, words), whose border stays as it is."""
    shape = (batch, height + 2 * border, width + 2 * border, count_words(channels))
    return torch.zeros(shape, dtype=torch.int32, device=device)


def pack_bits(bits: torch.Tensor) -> torch.Tensor:
    """(..., C) of booleans -> (..., words) int32."""
    padded = F.pad(bits.to(torch.uint8), [0, -bits.shape[-1] % WORD_BITS])
    octets = (padded.unflatten(-1, [-1, 8]) * _bit_values(bits.device)).sum(dim=-1, dtype=torch.uint8)
    return octets.view(torch.int32)  # the first octet is the lowest on every machine that torch runs on


def unpack_signs(words: torch.Tensor) -> torch.Tensor:
    """(..., words) int32 -> (..., 32 * words) float32 in {-1, +1}."""
    if words.stride(-1) != 1 or not words.is_contiguous():  # a last axis of one word may have any stride
        words = words.clone(memory_format=torch.contiguous_format)
    octets = words.view(torch.uint8).unsqueeze(-1)
    bits = (octets & _bit_values(words.device)).flatten(-2) != 0
    return bits.to(torch.float32).mul_(2).sub_(1)


def unpack_map(packed: torch.Tensor, channels: int, border: int) -> torch.Tensor:
    """The map within the border: (B, H + 2p, W + 2p, words) -> (B, H, W, C) float32 in {-1, +1}."""
    return unpack_signs(crop_border(packed, border))[..., :channels]


def crop_border(packed: torch.Tensor, border: int) -> torch.Tensor:
    """A view of the words within the border, (B, H, W, words)."""
    rows, columns = packed.shape[1] - 2 * border, packed.shape[2] - 2 * border
    return packed.narrow(1, border, rows).narrow(2, border, columns)


def pack_weight(weight: torch.Tensor) -> torch.Tensor:
    """Signs of a weight, 0 counting as +1.

    Args:
        weight: (O, C, k, k).

    Returns:
        (ceil(O / 16), k k, ceil(C / 32), 16) int32.
    """
    words = pack_bits(weight.flatten(2).transpose(1, 2) >= 0)  # (O, k k, words)
    words = F.pad(words, [0, 0, 0, 0, 0, -len(words) % LANES])
    return words.unflatten(0, [-1, LANES]).permute(0, 2, 3, 1).contiguous()


def unpack_weight(packed: torch.Tensor, out_channels: int, in_channels: int | None = None) -> torch.Tensor:
    """The inverse of `pack_weight`.

    Args:
        packed: (ceil(O / 16), k k, words, 16) int32.
        out_channels: O.
        in_channels: C; None for all 32 * words channels, of which the last are -1.

    Returns:
        (O, C, k, k) float32 in {-1, +1}.
    """
    size = round(packed.shape[1] ** 0.5)
    words = packed.permute(0, 3, 1, 2).flatten(0, 1)[:out_channels]  # (O, k k, words)
    signs = unpack_signs(words)[..., :in_channels]
    return signs.transpose(1, 2).unflatten(2, [size, size]).contiguous()


def border_base(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """What a packed convolution starts from: its value is base[class][o] - 2 popcount(x ^ w).

    A border word is 0 and would count as -1, so each class of output pixels, by the kernel's edges that lie in the
    border, gets the difference added: k k C + the sum of sign(w) over the taps outside.

    Args:
        weights: one weight (O, C, k, k) per source, whose values add up.

    Returns:
        (16, O) int32; class 4 * row + column, each 1 where the kernel's first edge is outside plus 2 where its last is.
    """
    return sum(_source_base(weight) for weight in weights)  # type: ignore[return-value]


def _source_base(weight: torch.Tensor) -> torch.Tensor:
    taps = ((weight >= 0).sum(dim=1) * 2 - weight.shape[1]).to(torch.int32)  # (O, k, k): sum of the signs
    base = torch.full((BORDER_CLASSES, len(weight)), weight[0].numel(), dtype=torch.int32, device=weight.device)
    if weight.shape[2] == 1:
        return base
    for number in range(BORDER_CLASSES):
        outside = torch.zeros(3, 3, dtype=torch.bool, device=weight.device)
        for edge, (of_rows, of_columns) in ((0, (4, 1)), (2, (8, 2))):
            outside[edge, :] |= bool(number & of_rows)
            outside[:, edge] |= bool(number & of_columns)
        base[number] += (taps * outside).sum(dim=(1, 2), dtype=torch.int32)
    return base


def _bit_values(device: torch.device) -> torch.Tensor:
    return torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=device)
