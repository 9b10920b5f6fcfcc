"""The trainer's step beside the plain one, on equal networks and the same mini-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW

from hidiff_monai.benchmark.models import IMAGE_CHANNELS, NUM_TARGETS, NUM_TIMESTEPS, refiner_channels
from hidiff_monai.benchmark.two_pass import TwoPassStep
from hidiff_monai.engines import AlternateCollaborativeTrainer
from hidiff_monai.losses import BernoulliDiffusionLoss, DiscriminativeLoss
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

LEARNING_RATE = 1e-3
BFLOAT16: dict[str, Any] = {"amp": True, "amp_kwargs": {"dtype": torch.bfloat16}}


def training_steps(width: int, image_size: int, batch: int) -> dict[str, Callable[[], object]]:
    """Callables that each run one training step, of g and of f, on the CPU.

    "plain two-pass" and "trainer" give equal losses and weights; "trainer, bf16" computes in half precision. Each has a
    network of its own. The trainer tunes the allocator for the whole process, so that where they are timed in turns the
    plain step has the advantage too.

    Args:
        width: of the refiner, whose channels are width * (1, 1, 2, 2, 4, 4); the segmentor is the package's U-Net.
        image_size: edge of the square crops, a multiple of 32; more than 32, for BatchNorm at the bottleneck.
        batch: crops a mini-batch.
    """
    images, labels = make_crops(image_size, batch)
    network = make_trainable(width)
    step = TwoPassStep(network, *make_optimizers(network))
    batches = [{"image": images, "label": labels}]
    return {
        "plain two-pass": lambda: step(images, labels),
        "trainer": make_trainer(make_trainable(width), batches).run,
        "trainer, bf16": make_trainer(make_trainable(width), batches, **BFLOAT16).run,
    }


def make_crops(image_size: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise images (B, C, H, W), and their bright pixels as labels (B, 1, H, W)."""
    images = torch.rand(batch, IMAGE_CHANNELS, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return images, (images[:, :NUM_TARGETS] > 0.7).float()


def make_trainable(width: int, binarized: bool = True) -> HiDiff:
    """A network as a training begins with; equal for equal arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmentor = UNetSegmentor(IMAGE_CHANNELS, NUM_TARGETS)
        refiner = DiffusionRefiner(
            IMAGE_CHANNELS,
            NUM_TARGETS,
            segmentor.feature_channels,
            segmentor.feature_strides,
            channels=refiner_channels(width),
            binarized=binarized,
        )
    return HiDiff(segmentor, refiner, BernoulliScheduler(NUM_TIMESTEPS))


def make_optimizers(network: HiDiff) -> tuple[AdamW, AdamW]:
    """One for the segmentor, one for the refiner."""
    return AdamW(network.segmentor.parameters(), LEARNING_RATE), AdamW(network.refiner.parameters(), LEARNING_RATE)


def make_trainer(network: HiDiff, batches: list[dict[str, torch.Tensor]], **options: Any) -> Any:
    """A trainer as in the paper, an epoch of ``batches`` a run."""
    segmentor_optimizer, refiner_optimizer = make_optimizers(network)
    return AlternateCollaborativeTrainer(
        "cpu",
        1,
        batches,
        network,
        segmentor_optimizer,
        refiner_optimizer,
        DiscriminativeLoss(),
        BernoulliDiffusionLoss(network.scheduler),
        decollate=False,
        **options,
    )
