"""A trained refiner folded for inference: BatchNorm into scales and thresholds, every function of t into a table.

Folding follows from Eq. 15 and 16 (HiDiff): with mu, sigma of TB's normalization, u > mu + sigma alpha(t) is TB's sign;
BatchNorm and the binary weight's mean|W| are one scale and one shift; the shift takes TA's -gamma(t) along.
"""

from typing import Any, NamedTuple, Optional

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.binarize import BinaryConv2d, BinaryLinear
from hidiff_monai.networks.blocks import ConvBlock
from hidiff_monai.networks.refiner import DiffusionRefiner
from hidiff_monai.networks.time_modules import TimeActivation, TimeBinarization
from hidiff_monai.networks.xformer import TokenBlock


class FoldedLayer(NamedTuple):
    """One convolution or linear layer: activate(weight * sign(x - threshold[t]) * scale + bias[t] [+ shortcut]).

    Attributes:
        weight: (O, C, k, k), a linear layer's as k = 1; in {-1, +1} where the layer is binarized.
        threshold: TB's, (T, C); None for a real-valued layer.
        scale: (O,), of the BatchNorm and of the binary weight's mean|W|.
        bias: (T, O), the BatchNorm's shift and TA's -gamma(t).
        slope: TA's, (O,), of the values below 0; None without TA.
        zeta: TA's shift after the slope, (T, O); None without TA.
    """

    weight: torch.Tensor
    threshold: Optional[torch.Tensor]
    scale: torch.Tensor
    bias: torch.Tensor
    slope: Optional[torch.Tensor]
    zeta: Optional[torch.Tensor]


class FoldedInput(NamedTuple):
    """A real-valued convolution with its BatchNorm folded in: weight (O, C, k, k), bias (O,)."""

    weight: torch.Tensor
    bias: torch.Tensor


class RealInput(nn.Module):
    """A real-valued convolution with its BatchNorm folded in, computed once per image.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: k, odd.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.padding = kernel_size // 2
        self.register_buffer("weight", torch.zeros(out_channels, in_channels, kernel_size, kernel_size))
        self.register_buffer("bias", torch.zeros(out_channels))

    def fill(self, folded: FoldedInput) -> None:
        """Takes over a folded convolution."""
        self.weight.copy_(folded.weight)
        self.bias.copy_(folded.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


def time_embeddings(refiner: DiffusionRefiner, num_timesteps: int) -> torch.Tensor:
    """The embedding of every t, (T, E)."""
    weight = refiner.stem_sample.weight
    return refiner.time_embedding(torch.arange(num_timesteps, device=weight.device))


def fold_threshold(binarize: TimeBinarization, embeddings: torch.Tensor) -> torch.Tensor:
    """mu + sigma alpha(t): (T, C)."""
    deviation, mean = _deviation(binarize.norm), binarize.norm.running_mean
    return mean + deviation * binarize.threshold(embeddings)


def fold_block(block: ConvBlock, embeddings: torch.Tensor) -> FoldedLayer:
    """A block's convolution with its TB, BatchNorm and TA."""
    return _fold(block.binarize, block.conv, block.norm, block.activate, embeddings)


def fold_tokens(block: TokenBlock, embeddings: torch.Tensor, activate: Optional[TimeActivation] = None) -> FoldedLayer:
    """A linear layer with its TB and BatchNorm, and the TA that follows it."""
    return _fold(block.binarize, block.linear, block.norm, activate, embeddings)


def fold_real(conv: nn.Conv2d, norm: nn.Module) -> FoldedInput:
    """A convolution without bias, and the BatchNorm after it."""
    scale, shift = _affine(norm)
    return FoldedInput(conv.weight * scale[:, None, None, None], shift)


def _fold(
    binarize: Optional[TimeBinarization],
    layer: Any,
    norm: Any,
    activate: Optional[TimeActivation],
    embeddings: torch.Tensor,
) -> FoldedLayer:
    weight = layer.weight
    scale, shift = _affine(norm)
    if isinstance(layer, (BinaryConv2d, BinaryLinear)):
        scale = scale * weight.abs().flatten(1).mean(1)
        weight = (weight >= 0).to(weight.dtype) * 2 - 1
    if weight.dim() == 2:
        weight = weight[:, :, None, None]
    bias = shift.expand(len(embeddings), -1)
    slope = zeta = None
    if activate is not None:
        gamma, zeta = activate.shifts(embeddings).chunk(2, dim=1)
        bias, slope = bias - gamma, activate.slope
    threshold = None if binarize is None else fold_threshold(binarize, embeddings)
    return FoldedLayer(weight, threshold, scale, bias, slope, zeta)


def _affine(norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of a BatchNorm in evaluation, each (C,)."""
    scale = norm.weight / _deviation(norm)
    return scale, norm.bias - norm.running_mean * scale


def _deviation(norm: Any) -> torch.Tensor:
    return torch.sqrt(norm.running_var + norm.eps)
