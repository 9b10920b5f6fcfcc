"""Networks with a part taken out, and the start that all rows of an ablation share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from hidiff_monai.io import check_architecture, read_checkpoint
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.networks.blocks import ConvBlock, DownLevel

Network = TypeVar("Network", bound=HiDiff)


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


def with_segmentor(network: Network, path: str | Path) -> Network:
    """The network with the segmentor of a checkpoint, and its refiner as it is.

    Raises:
        ValueError: when the file cannot be read, or holds another segmentor.
    """
    prefix = "segmentor."
    state = {key[len(prefix) :]: value for key, value in read_checkpoint(path).items() if key.startswith(prefix)}
    check_architecture(network.segmentor, state, str(path))
    network.segmentor.load_state_dict(state)
    return network
