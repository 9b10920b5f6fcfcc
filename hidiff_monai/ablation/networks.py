"""Networks with a part taken out."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from hidiff_monai.networks import DiffusionRefiner
from hidiff_monai.networks.blocks import ConvBlock, DownLevel


class RefinerWithoutXFormer(DiffusionRefiner):
    """A refiner whose bottleneck joins the segmentor's features as its other levels do: convolved beside its own map.

    Args:
        arguments: those of ``DiffusionRefiner``.
    """

    cross_transformer: nn.Module  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        bottleneck = cast(DownLevel, self.down_levels[-1]).basic
        embedding_dim = cast(nn.Linear, self.time_embedding.mlp[0]).in_features
        self.cross_transformer = _ConcatenatedCondition(bottleneck.out_channels, embedding_dim, self.binarized)


class _ConcatenatedCondition(nn.Module):
    def __init__(self, channels: int, embedding_dim: int, binarized: bool) -> None:
        super().__init__()
        self.condition = ConvBlock(channels, channels, embedding_dim, binarized, extra_channels=channels)

    def forward(self, diffusion: torch.Tensor, prior: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Called as ``CrossTransformer`` is."""
        return self.condition(diffusion, embedding, prior)
