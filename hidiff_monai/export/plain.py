"""A network in plain operations, for exporters that record each of them: no gradients, no weights left to binarize."""

from __future__ import annotations

import copy

import torch
from torch import nn

from hidiff_monai.networks import BinaryConv2d, BinaryLinear, HiDiff
from hidiff_monai.networks.binarize import binary_weight
from hidiff_monai.networks.time_modules import TimeBinarization, per_channel


class PlainBinarization(nn.Module):
    """`TimeBinarization` without a gradient: the same numbers from half the operations.

    Args:
        trained: what it takes the place of.
    """

    def __init__(self, trained: TimeBinarization) -> None:
        super().__init__()
        self.norm = trained.norm
        self.threshold = trained.threshold

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) or tokens (B, N, C) -> the same shape, in {-1, +1}."""
        normalised = self.norm(x) if x.dim() == 4 else self.norm(x.transpose(1, 2)).transpose(1, 2)
        return torch.where(normalised + per_channel(-self.threshold(embedding), x) > 0, 1.0, -1.0)


def plain_copy(network: HiDiff) -> HiDiff:
    """A copy for inference: the trained network's numbers, but for the last bit of a sum, in half the operations."""
    plain = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            setattr(module, name, _plain(child))
    return plain


@torch.no_grad()
def _plain(module: nn.Module) -> nn.Module:
    if isinstance(module, TimeBinarization):
        return PlainBinarization(module)
    if isinstance(module, BinaryLinear):
        linear = nn.Linear(module.weight.shape[1], module.weight.shape[0], bias=False).requires_grad_(False)
        linear.weight.copy_(binary_weight(module.weight))
        return linear.eval()
    if isinstance(module, BinaryConv2d):
        out_channels, in_channels, size, _ = module.weight.shape
        conv = nn.Conv2d(in_channels, out_channels, size, module.stride, module.padding, bias=False)
        conv.requires_grad_(False).weight.copy_(binary_weight(module.weight))
        return conv.eval()
    return module
