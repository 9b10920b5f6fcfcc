"""The memory that a packed refiner works in: laid out once for a size of image, used again in every step."""

from typing import List, NamedTuple

import torch
from torch import nn

from hidiff_monai.ops.packing import count_words


class LevelMaps(NamedTuple):
    """The maps of one level, for B chains of B' images.

    Attributes:
        stream: real-valued, (B, H, W, C), updated in place by every block of the level.
        bits: packed, (B, H + 2, W + 2, words), what enters the level's next block, or leaves the level.
        spare: packed, same shape, the other one of the two between which the blocks alternate.
        skip: packed, same shape, the skip connection; empty at the bottleneck.
        extra: packed, (B', H + 2, W + 2, words), the prior's features; empty where none enters.
    """

    stream: torch.Tensor
    bits: torch.Tensor
    spare: torch.Tensor
    skip: torch.Tensor
    extra: torch.Tensor


class TokenMaps(NamedTuple):
    """The maps of the X-Former at the bottleneck, (B, h, w, C) or packed (B, h, w, words), for B chains of B' images.

    Attributes:
        image_bits: packed, (B', h, w, words): of the prior's features.
        query_bits: packed; key_bits and value_bits alike.
        key_bits: see there.
        value_bits: see there.
        hidden_bits: packed, of the perceptron's 4 C channels.
        image_query: float32, (B', h, w, C).
        query: float32; key, value and tokens alike.
        key: see there.
        value: see there.
        tokens: the prior's, which each chain enriches.
    """

    image_bits: torch.Tensor
    query_bits: torch.Tensor
    key_bits: torch.Tensor
    value_bits: torch.Tensor
    hidden_bits: torch.Tensor
    image_query: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    tokens: torch.Tensor


class Workspace(nn.Module):
    """Three arenas, carved into maps; they grow when a larger image comes and are never shrunk, but by ``release``.

    It changes itself when called, which no other module here does: two threads must not share one.

    Args:
        channels: of the levels.
        feature_levels: those where a prior feature enters.
        num_targets: K.
        storage: float16 or float32, the type of the streams.
    """

    packed_maps: List[torch.Tensor]
    streams: List[torch.Tensor]
    real_maps: List[torch.Tensor]

    def __init__(self, channels: List[int], feature_levels: List[int], num_targets: int, storage: torch.dtype) -> None:
        super().__init__()
        self.channels: List[int] = list(channels)
        self.feature_levels: List[int] = list(feature_levels)
        self.num_targets = num_targets
        self.num_words: List[int] = [count_words(number) for number in channels]
        self.num_hidden_words = count_words(4 * channels[-1])
        self.storage_bytes = torch.empty(0, dtype=storage).element_size()
        self.words = torch.empty(0, dtype=torch.int32)
        self.values = torch.empty(0, dtype=storage)
        self.reals = torch.empty(0)
        self.layout: List[int] = [0, 0, 0, 0]
        self.packed_maps = []
        self.streams = []
        self.real_maps = []

    def prepare(self, batch: int, images: int, height: int, width: int, device: torch.device) -> None:
        """Lays the maps out for B = ``batch`` chains of B' = ``images`` images of a padded size, unless they are so."""
        layout = [batch, images, height, width]
        is_stale = self.words.is_inference() and not torch.empty(0).is_inference()
        if layout == self.layout and self.words.device == device and not is_stale:
            return
        packed = self._packed_shapes(batch, images, height, width)
        streams = self._stream_shapes(batch, height, width)
        reals = self._real_shapes(batch, images, height, width)
        self.words = _grown(self.words, _total(packed), device, is_stale)
        self.values = _grown(self.values, _total(streams), device, is_stale)
        self.reals = _grown(self.reals, _total(reals), device, is_stale)
        self.words.zero_()  # what was a map's interior may be another's border
        self.packed_maps = _carve(self.words, packed)
        self.streams = _carve(self.values, streams)
        self.real_maps = _carve(self.reals, reals)
        self.layout = layout

    def release(self) -> None:
        """Gives the memory back."""
        self.packed_maps, self.streams, self.real_maps = self.packed_maps[:0], self.streams[:0], self.real_maps[:0]
        self.words, self.values, self.reals = self.words.new_empty(0), self.values.new_empty(0), self.reals.new_empty(0)
        self.layout = [0, 0, 0, 0]

    def count_bytes(self) -> int:
        """What the arenas hold."""
        return 4 * (self.words.numel() + self.reals.numel()) + self.storage_bytes * self.values.numel()

    def level(self, i: int) -> LevelMaps:
        """The maps of level i, 0 at full resolution."""
        maps = self.packed_maps
        return LevelMaps(self.streams[i], maps[4 * i], maps[4 * i + 1], maps[4 * i + 2], maps[4 * i + 3])

    def tokens(self) -> TokenMaps:
        """The X-Former's maps."""
        p, r = self.packed_maps[4 * len(self.channels) :], self.real_maps
        return TokenMaps(p[0], p[1], p[2], p[3], p[4], r[0], r[1], r[2], r[3], r[4])

    def correction(self) -> torch.Tensor:
        """The output's map, (B, K, H, W) float32."""
        return self.real_maps[5]

    def _packed_shapes(self, batch: int, images: int, height: int, width: int) -> List[List[int]]:
        shapes: List[List[int]] = []
        last = len(self.channels) - 1
        for i, words in enumerate(self.num_words):
            size = [(height >> i) + 2, (width >> i) + 2, words]
            has_feature = i < last and i in self.feature_levels
            for number in [batch, batch, batch if i < last else 0, images if has_feature else 0]:
                shapes.append([number] + size)
        rows, columns = height >> last, width >> last
        for number in [images, batch, batch, batch]:
            shapes.append([number, rows, columns, self.num_words[last]])
        shapes.append([batch, rows, columns, self.num_hidden_words])
        return shapes

    def _stream_shapes(self, batch: int, height: int, width: int) -> List[List[int]]:
        shapes: List[List[int]] = []
        for i, channels in enumerate(self.channels):
            shapes.append([batch, height >> i, width >> i, channels])
        return shapes

    def _real_shapes(self, batch: int, images: int, height: int, width: int) -> List[List[int]]:
        shapes: List[List[int]] = []
        last = len(self.channels) - 1
        for number in [images, batch, batch, batch, batch]:
            shapes.append([number, height >> last, width >> last, self.channels[last]])
        shapes.append([batch, self.num_targets, height, width])
        return shapes


def _room(shape: List[int]) -> int:
    """Elements of a map and up to the next multiple of 64, so that each map starts on a cache line."""
    number = 1
    for size in shape:
        number *= size
    return -(-number // 64) * 64


def _total(shapes: List[List[int]]) -> int:
    total = 0
    for shape in shapes:
        total += _room(shape)
    return total


def _grown(arena: torch.Tensor, number: int, device: torch.device, is_stale: bool) -> torch.Tensor:
    """The arena, or a new one where it is too small, elsewhere, or cannot be written to outside inference mode."""
    if arena.numel() >= number and arena.device == device and not is_stale:
        return arena
    return torch.empty(number, dtype=arena.dtype, device=device)


def _carve(arena: torch.Tensor, shapes: List[List[int]]) -> List[torch.Tensor]:
    maps: List[torch.Tensor] = []
    start = 0
    for shape in shapes:
        room = _room(shape)
        number = 1
        for size in shape:
            number *= size
        maps.append(arena[start : start + number].view(shape))
        start += room
    return maps
