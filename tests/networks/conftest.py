"""Refiners that look as if they were trained, and inputs for them."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn

from hidiff_monai.networks import DiffusionRefiner


class Inputs(NamedTuple):
    """What a refiner's ``forward`` takes."""

    image: torch.Tensor
    sample: torch.Tensor
    prior: torch.Tensor
    features: list[torch.Tensor]
    timesteps: torch.Tensor


def imitate_training(module: nn.Module) -> nn.Module:
    """Moves every parameter and every statistic away from where it starts, and ends in evaluation mode."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.running_mean.normal_(std=0.3)
                layer.running_var.uniform_(0.5, 2.0)
    return module.eval()


@pytest.fixture
def trained_refiner() -> Callable[..., DiffusionRefiner]:
    """Builds a refiner and imitates its training."""

    def build(
        num_targets: int = 1,
        channels: tuple[int, ...] = (8, 8, 16, 48),
        feature_strides: tuple[int, ...] = (1, 4, 8),
        image_channels: int = 3,
        binarized: bool = True,
    ) -> DiffusionRefiner:
        refiner = DiffusionRefiner(
            image_channels, num_targets, range(3, 3 + len(feature_strides)), feature_strides, channels, 8, 2, binarized
        )
        imitate_training(refiner)
        return refiner

    return build


@pytest.fixture
def draw_inputs() -> Callable[..., Inputs]:
    """Draws images, priors, states and features for a refiner, all at one t."""

    def draw(refiner: nn.Module, batch: int = 2, size: tuple[int, int] = (24, 40), t: int = 3) -> Inputs:
        image = torch.rand(batch, refiner.image_channels, *size)
        prior = torch.rand(batch, refiner.num_targets, *size)
        features = [
            torch.randn(batch, channels, *(-(-edge // stride) for edge in size))
            for channels, stride in zip(refiner.feature_channels, refiner.feature_strides, strict=True)
        ]
        return Inputs(image, torch.bernoulli(prior), prior, features, torch.full((batch,), t))

    return draw
