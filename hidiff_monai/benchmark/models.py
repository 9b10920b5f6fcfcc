"""The networks that are timed: the paper's sizes, random weights, and statistics as training leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.networks.time_modules import TimeActivation, TimeBinarization
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

LEVELS = (1, 1, 2, 2, 4, 4)  # times the width: the refiner's channels
FEATURES = (96, 192, 384, 768)  # at strides 4, 8, 16 and 32
SEGMENTOR = (24, 48, *FEATURES)
WIDTH = 128  # the paper's
IMAGE_CHANNELS, NUM_TARGETS, NUM_TIMESTEPS = 3, 1, 10
CALIBRATION_SIZE = 64  # the smallest image with more than one pixel at the bottleneck


def refiner_channels(width: int) -> tuple[int, ...]:
    """Channels of the six levels."""
    return tuple(width * level for level in LEVELS)


def segmentor_channels(width: int) -> tuple[int, ...]:
    """Channels of the segmentor's six levels; the four coarsest are the features. Scaled down with the refiner."""
    return tuple(max(1, channels * width // WIDTH) for channels in SEGMENTOR)


def make_refiner(width: int, binarized: bool = True, seed: int = 0) -> DiffusionRefiner:
    """A refiner in evaluation mode whose thresholds, shifts, statistics and correction are none of them zero.

    The statistics are those of its own activations, every channel's moved at random: signs of both kinds are common.
    """
    generator = torch.Generator().manual_seed(seed)
    features = segmentor_channels(width)[2:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        refiner = DiffusionRefiner(
            IMAGE_CHANNELS, NUM_TARGETS, features, channels=refiner_channels(width), binarized=binarized
        )
        _randomise(refiner)
        _calibrate(refiner, make_inputs(2, CALIBRATION_SIZE, width, generator))
    return refiner.eval().requires_grad_(False)


def make_segmentor(width: int, seed: int = 0) -> UNetSegmentor:
    """A U-Net, in evaluation mode, that gives the features `make_refiner` expects."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        segmentor = UNetSegmentor(IMAGE_CHANNELS, NUM_TARGETS, segmentor_channels(width))
    return segmentor.eval().requires_grad_(False)


def make_hidiff(refiner: Any, segmentor: nn.Module | None = None, num_inference_steps: int | None = None) -> HiDiff:
    """The joint module around a refiner, or what was made of one, with the hard sampler."""
    scheduler = BernoulliScheduler(NUM_TIMESTEPS)
    return HiDiff(segmentor or nn.Identity(), refiner, scheduler, num_inference_steps=num_inference_steps).eval()


@dataclass(frozen=True)
class Inputs:
    """What a refiner is given.

    Attributes:
        image: (B, image_channels, H, W).
        prior: f(x), (B, K, H, W), in (0, 1).
        features: the segmentor's maps.
    """

    image: torch.Tensor
    prior: torch.Tensor
    features: list[torch.Tensor]


def make_inputs(batch: int, image_size: int, width: int, generator: torch.Generator | None = None) -> Inputs:
    """Random inputs for a square image."""
    generator = generator or torch.Generator().manual_seed(0)

    def draw(channels: int, stride: int) -> torch.Tensor:
        return torch.randn(batch, channels, -(-image_size // stride), -(-image_size // stride), generator=generator)

    channels = segmentor_channels(width)[2:]
    features = [draw(number, 4 * 2**i) for i, number in enumerate(channels)]
    return Inputs(draw(IMAGE_CHANNELS, 1), draw(NUM_TARGETS, 1).mul_(2).sigmoid_(), features)


@torch.no_grad()
def _randomise(refiner: DiffusionRefiner) -> None:
    """Lets t matter, and the output too: both start at zero."""
    for module in refiner.modules():
        if isinstance(module, (TimeBinarization, TimeActivation)):
            linear = module.threshold if isinstance(module, TimeBinarization) else module.shifts
            linear.weight.normal_(std=0.1)
            linear.bias.normal_(std=0.1)
    refiner.correction.weight.normal_(std=0.02)


@torch.no_grad()
def _calibrate(refiner: DiffusionRefiner, inputs: Inputs) -> None:
    norms = [one for one in refiner.modules() if isinstance(one, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        norm.momentum = 1.0
    sample = (inputs.prior > 0.5).float()
    timesteps = torch.arange(len(sample)) * (NUM_TIMESTEPS - 1)
    refiner.train()(inputs.image, sample, inputs.prior, inputs.features, timesteps)
    for norm in norms:
        norm.momentum = 0.1
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.add_(0.3 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(torch.rand_like(norm.running_var) + 0.5)
