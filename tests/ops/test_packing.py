"""Bits and signs: every one in its place, and back."""

import pytest
import torch
from torch.nn import functional as F

from hidiff_monai.ops import packing

CHANNELS = [1, 5, 16, 17, 31, 32, 33, 64, 70]


def bit(word: int, position: int) -> int:
    """Of a signed 32-bit number."""
    return (word & 0xFFFFFFFF) >> position & 1


@pytest.mark.parametrize("channels", CHANNELS)
def test_channel_32_j_plus_i_is_bit_i_of_word_j(channels: int) -> None:
    bits = torch.rand(2, 3, channels) > 0.5
    words = packing.pack_bits(bits)
    assert words.shape == (2, 3, packing.count_words(channels)) and words.dtype == torch.int32
    for place, row in zip(words.flatten(0, 1).tolist(), bits.flatten(0, 1).tolist(), strict=True):
        unpacked = [bit(word, i) for word in place for i in range(32)]
        assert unpacked == [int(b) for b in row] + [0] * (len(unpacked) - channels)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("border", [0, 1])
def test_a_map_comes_back_from_within_its_border(channels: int, border: int) -> None:
    packed = packing.allocate_packed(2, 4, 3, channels, border)
    assert packed.shape == (2, 4 + 2 * border, 3 + 2 * border, packing.count_words(channels)) and not packed.any()
    bits = torch.rand(2, 4, 3, channels) > 0.5
    packing.crop_border(packed, border).copy_(packing.pack_bits(bits))
    assert torch.equal(packing.unpack_map(packed, channels, border), bits * 2.0 - 1)
    assert packed.count_nonzero() == packing.crop_border(packed, border).count_nonzero()


def test_one_word_unpacks_whatever_its_strides() -> None:
    words = torch.arange(16, dtype=torch.int32).reshape(1, 16)
    assert torch.equal(packing.unpack_signs(words.t()), packing.unpack_signs(words.t().clone()))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("outputs", "size"), [(1, 3), (16, 1), (20, 3), (33, 1)])
def test_a_weight_lies_in_groups_taps_words_lanes(channels: int, outputs: int, size: int) -> None:
    weight = torch.randn(outputs, channels, size, size)
    weight[0, 0] = 0.0  # counts as +1
    packed = packing.pack_weight(weight)
    assert packed.shape == (-(-outputs // 16), size * size, packing.count_words(channels), 16)
    assert packed.is_contiguous()
    for o in {0, outputs // 2, outputs - 1}:
        for c in {0, channels // 2, channels - 1}:
            for tap in range(size * size):
                word = int(packed[o // 16, tap, c // 32, o % 16])
                assert bit(word, c % 32) == int(weight[o, c, tap // size, tap % size] >= 0)
    assert torch.equal(packing.unpack_weight(packed, outputs, channels), (weight >= 0) * 2.0 - 1)
    last = packed[-1, :, :, outputs - 16 * (len(packed) - 1) :]
    assert not last.any()


@pytest.mark.parametrize(("size", "outputs"), [(1, 3), (3, 5)])
def test_base_and_popcount_give_the_convolution(size: int, outputs: int) -> None:
    """Brute force, word by word, over every class of pixel: 1x1 to 3x3 images have them all but the inner ones."""
    weights = [torch.randn(outputs, channels, size, size) for channels in (5, 40)]
    base, border = packing.border_base(weights), packing.border_of(size)
    assert base.shape == (16, outputs) and base.dtype == torch.int32
    for height, width in [(1, 1), (1, 2), (2, 1), (3, 3), (2, 4)]:
        maps = [torch.randn(1, height, width, weight.shape[1]) for weight in weights]
        expected = sum(
            F.conv2d((x > 0).permute(0, 3, 1, 2) * 2.0 - 1, (weight >= 0) * 2.0 - 1, padding=border)
            for x, weight in zip(maps, weights, strict=True)
        )
        for y in range(height):
            for x in range(width):
                rows, columns = (y == 0) + 2 * (y == height - 1), (x == 0) + 2 * (x == width - 1)
                pops = torch.zeros(outputs, dtype=torch.int32)
                for values, weight in zip(maps, weights, strict=True):
                    packed = packing.allocate_packed(1, height, width, values.shape[3], border)
                    packing.crop_border(packed, border).copy_(packing.pack_bits(values > 0))
                    pops += popcounts(packed[0, y : y + size, x : x + size], packing.pack_weight(weight), outputs)
                value = base[(4 * rows + columns) if size == 3 else 0] - 2 * pops
                assert torch.equal(value.float(), expected[0, :, y, x])


def popcounts(window: torch.Tensor, weight: torch.Tensor, outputs: int) -> torch.Tensor:
    """Bits that differ, per output channel: window (k, k, words), weight as packed."""
    counts = []
    for o in range(outputs):
        differing = window.flatten(0, 1) ^ weight[o // 16, :, :, o % 16]
        counts.append(sum((int(word) & 0xFFFFFFFF).bit_count() for word in differing.flatten()))
    return torch.tensor(counts, dtype=torch.int32)
