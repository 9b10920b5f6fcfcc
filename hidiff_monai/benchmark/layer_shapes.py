"""The refiner's layers that are timed one by one, and what arithmetic allows them at best."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hidiff_monai.networks.folding import FoldedLayer

VECTOR_BITS = 512
# XOR, population count and addition of 512 bits, on pipes of which Zen 4 has two that wide and Zen 5 four.
CYCLES_PER_VECTOR = {"25": 3 / 2, "26": 3 / 4}


@dataclass(frozen=True)
class Layer:
    """One binary convolution of the refiner, or a linear layer on the tokens of its X-Former.

    Attributes:
        role: what it is for.
        in_channels: C.
        out_channels: O.
        size: edge of the square map that it gives.
        kernel_size: 3, or 1 on tokens.
        stride: 2 reads a map of twice the size.
        upsamples: it reads a map of half the size, nearest x2.
        extra_channels: of a second source beside the first.
        has_shortcut: whether its input is added to its result.
        keeps_stream: whether its result is kept as real values, beside the next layer's signs.
    """

    role: str
    in_channels: int
    out_channels: int
    size: int
    kernel_size: int = 3
    stride: int = 1
    upsamples: bool = False
    extra_channels: int = 0
    has_shortcut: bool = True
    keeps_stream: bool = True

    @property
    def in_size(self) -> int:
        """Edge of the map that it reads."""
        return self.size * self.stride // (2 if self.upsamples else 1)

    @property
    def name(self) -> str:
        """For example ``3x3 128+128 -> 128, 256^2, merge``."""
        channels = f"{self.in_channels}+{self.extra_channels}" if self.extra_channels else f"{self.in_channels}"
        shape = f"{self.kernel_size}x{self.kernel_size} {channels} -> {self.out_channels}"
        return f"{shape}, {self.size}^2, {self.role}"

    @property
    def multiply_adds(self) -> int:
        """Binary ones of one image, as the convolution is written."""
        channels = self.in_channels + self.extra_channels
        return self.size**2 * self.out_channels * self.kernel_size**2 * channels

    @property
    def fewest_multiply_adds(self) -> int:
        """Those that are needed: a tap of an enlarged map is the same at four pixels."""
        if not self.upsamples:
            return self.multiply_adds
        own = self.size**2 * self.out_channels * self.kernel_size**2 * self.in_channels
        return self.multiply_adds - own * 3 // 4

    def limit_s(self, cycles_per_vector: float, clock_hz: float, threads: int) -> float:
        """Seconds that the population counts alone take, with AVX-512; see `CYCLES_PER_VECTOR`."""
        return self.fewest_multiply_adds / VECTOR_BITS * cycles_per_vector / (clock_hz * threads)

    def draw_folded(self, generator: torch.Generator) -> FoldedLayer:
        """A folded layer of random signs; scale and bias keep a stream that is updated in place bounded for ever."""
        channels = self.in_channels + self.extra_channels
        taps = channels * self.kernel_size**2
        shape = (self.out_channels, channels, self.kernel_size, self.kernel_size)
        weight = torch.randint(0, 2, shape, generator=generator).float().mul_(2).sub_(1)
        activates = self.kernel_size == 3 or not self.has_shortcut
        return FoldedLayer(
            weight=weight,
            threshold=0.1 * torch.randn(1, channels, generator=generator),
            scale=torch.full((self.out_channels,), 0.5 / taps),
            bias=torch.full((1, self.out_channels), -1.0),
            slope=torch.full((self.out_channels,), 0.25) if activates else None,
            zeta=0.1 * torch.randn(1, self.out_channels, generator=generator) if activates else None,
        )


def choose_layers(width: int, image_size: int) -> list[Layer]:
    """Those of a refiner of that width and image size that differ in what they cost."""
    w, two, four = width, 2 * width, 4 * width

    def edge(halvings: int) -> int:
        return max(1, image_size // 2**halvings)

    blocks = [
        Layer("basic", w, w, edge(0)),
        Layer("merge", w, w, edge(0), upsamples=True, extra_channels=w),
        Layer("basic", w, w, edge(1)),
        Layer("down", w, two, edge(2), stride=2),
        Layer("basic", two, two, edge(2)),
        Layer("condition", two, two, edge(3), extra_channels=two),
        Layer("basic", four, four, edge(4)),
    ]
    tokens = [
        layer
        for size in (edge(5), edge(3))  # of this image, and of one four times as large
        for layer in (
            Layer("project", four, four, size, 1),
            Layer("expand", four, 4 * four, size, 1, has_shortcut=False, keeps_stream=False),
        )
    ]
    return blocks + tokens
