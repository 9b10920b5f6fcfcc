"""The refiner's layers for inference: a binary one with all that follows it is one operator; the inputs are real."""

from typing import Optional

import torch
from torch import nn

import hidiff_monai.ops  # noqa: F401  registers torch.ops.hidiff_monai
from hidiff_monai.networks.folding import FoldedLayer
from hidiff_monai.ops.packing import BORDER_CLASSES, LANES, border_base, count_words, pack_weight


class PackedConv(nn.Module):
    """A binary convolution (a linear layer, with ``kernel_size=1``), its scale, shift and activation.

    It has no parameters: 1-bit weights and tables over t, all buffers. The bits of its input are made by whatever
    writes that input, with this layer's ``threshold``.

    Args:
        in_channels: C of the input.
        out_channels: O.
        num_timesteps: T, rows of the tables.
        kernel_size: 3 or 1.
        stride: 1 or 2.
        upsamples: nearest x2 before the convolution.
        extra_channels: E of a second input beside the first.
        activates: whether TA follows.
    """

    extra_weight: Optional[torch.Tensor]
    slope: Optional[torch.Tensor]
    zeta: Optional[torch.Tensor]
    weight: torch.Tensor
    base: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor
    threshold: torch.Tensor
    extra_threshold: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_timesteps: int,
        kernel_size: int = 3,
        stride: int = 1,
        upsamples: bool = False,
        extra_channels: int = 0,
        activates: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.extra_channels = extra_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.upsamples = upsamples

        def bits(channels: int) -> torch.Tensor:
            groups = -(-out_channels // LANES)
            return torch.zeros(groups, kernel_size**2, count_words(channels), LANES, dtype=torch.int32)

        self.register_buffer("weight", bits(in_channels))
        self.register_buffer("extra_weight", bits(extra_channels) if extra_channels else None)
        self.register_buffer("base", torch.zeros(BORDER_CLASSES, out_channels, dtype=torch.int32))
        self.register_buffer("scale", torch.zeros(out_channels))
        self.register_buffer("bias", torch.zeros(num_timesteps, out_channels))
        self.register_buffer("slope", torch.zeros(out_channels) if activates else None)
        self.register_buffer("zeta", torch.zeros(num_timesteps, out_channels) if activates else None)
        self.register_buffer("threshold", torch.zeros(num_timesteps, in_channels))
        self.register_buffer("extra_threshold", torch.zeros(num_timesteps, extra_channels))

    def fill(self, folded: FoldedLayer) -> None:
        """Takes over a folded layer of the same sizes."""
        weights = folded.weight.detach().split([self.in_channels, self.extra_channels], dim=1)
        self.weight.copy_(pack_weight(weights[0]))
        if self.extra_weight is not None:
            self.extra_weight.copy_(pack_weight(weights[1]))
        self.base.copy_(border_base(weights[: 2 if self.extra_channels else 1]))
        self.scale.copy_(folded.scale)
        self.bias.copy_(folded.bias)
        for mine, given in ((self.slope, folded.slope), (self.zeta, folded.zeta)):
            if mine is not None and given is not None:
                mine.copy_(given)
        assert folded.threshold is not None
        self.threshold.copy_(folded.threshold[:, : self.in_channels])
        self.extra_threshold.copy_(folded.threshold[:, self.in_channels :])

    def forward(
        self,
        t: int,
        x: torch.Tensor,
        extra: Optional[torch.Tensor] = None,
        shortcut: Optional[torch.Tensor] = None,
        out: Optional[torch.Tensor] = None,
        threshold: Optional[torch.Tensor] = None,
        packed: Optional[torch.Tensor] = None,
        skip_threshold: Optional[torch.Tensor] = None,
        skip_packed: Optional[torch.Tensor] = None,
    ) -> None:
        """Packed x (and extra) -> out, real-valued, and its bits by one or two thresholds; see the operator."""
        zeta = self.zeta
        torch.ops.hidiff_monai.binary_conv2d(
            x, self.weight, extra, self.extra_weight, self.base, self.kernel_size, self.stride, self.upsamples,
            self.scale, self.bias[t], shortcut, self.slope, None if zeta is None else zeta[t], out,
            threshold, packed, skip_threshold, skip_packed,
        )  # fmt: skip
