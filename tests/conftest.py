"""Fixtures and rules for every test: one seed, two threads, and real data that is never skipped in silence."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hidiff_monai.engines import AlternateCollaborativeTrainer
from hidiff_monai.losses import BernoulliDiffusionLoss, DiscriminativeLoss
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

REAL_DATA_FIXTURES = {"data_root", "drive_dir"}


def find_data_root() -> Path:
    """The folder of real datasets: HIDIFF_DATA, by default ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("HIDIFF_DATA") or default)


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Whoever uses a real-data fixture is a real_data test."""
    if REAL_DATA_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker("real_data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A real_data test that is skipped although the data lies there has failed."""
    report = yield
    is_skipped = report.skipped and not hasattr(report, "wasxfail")
    if is_skipped and item.get_closest_marker("real_data") and find_data_root().is_dir():
        report.outcome = "failed"
        report.longrepr = (
            f"REAL-DATA TEST SKIPPED although {find_data_root()} exists: {report.longrepr[-1]}\n"
            "Complete the data, set HIDIFF_DATA to another folder, or leave these tests out with -m 'not real_data'."
        )
    return report


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random state before each test."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real datasets; skips where there is none."""
    root = find_data_root()
    if not root.is_dir():
        pytest.skip(f"no real data: {root} is not a folder; set HIDIFF_DATA to the folder that holds the datasets")
    return root


@pytest.fixture(scope="session")
def drive_dir(data_root: Path) -> Path:
    """The DRIVE folder, with training/ and test/ as downloaded."""
    folder = data_root / "drive"
    if not folder.is_dir():
        pytest.skip(f"no DRIVE data: {folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def make_network() -> Callable[..., HiDiff]:
    """Builds a whole HiDiff of three levels, with BatchNorm; equal seeds give equal weights."""

    def build(
        seed: int = 0, num_targets: int = 1, width: int = 4, binarized: bool = True, image_channels: int = 1
    ) -> HiDiff:
        torch.manual_seed(seed)
        channels = [width, width, 2 * width]
        segmentor = UNetSegmentor(image_channels, num_targets, channels)
        features = {"feature_channels": segmentor.feature_channels, "feature_strides": segmentor.feature_strides}
        refiner = DiffusionRefiner(
            image_channels,
            num_targets,
            **features,
            channels=channels,
            embedding_dim=8,
            num_heads=2,
            binarized=binarized,
        )
        torch.nn.init.normal_(
            refiner.correction.weight, std=0.1
        )  # at zero, g would pass on no gradient from its features
        return HiDiff(segmentor, refiner, BernoulliScheduler())

    return build


@pytest.fixture(scope="session")
def make_trainer() -> Callable[..., AlternateCollaborativeTrainer]:
    """Builds a trainer on the CPU, with AdamW and an output that stays one dictionary."""

    def build(network: HiDiff, batches: Any, max_epochs: int = 1, **kwargs: Any) -> AlternateCollaborativeTrainer:
        defaults = {
            "segmentor_optimizer": torch.optim.AdamW(network.segmentor.parameters(), 1e-2),
            "refiner_optimizer": torch.optim.AdamW(network.refiner.parameters(), 1e-2),
            "discriminative_loss": DiscriminativeLoss(),
            "diffusion_loss": BernoulliDiffusionLoss(network.scheduler),
            "decollate": False,
        }
        return AlternateCollaborativeTrainer("cpu", max_epochs, batches, network, **{**defaults, **kwargs})

    return build


@pytest.fixture(scope="session")
def make_batches() -> Callable[..., list[dict[str, torch.Tensor]]]:
    """Draws mini-batches of noise images, whose bright pixels are the label."""

    def draw(number: int, batch_size: int = 2, size: int = 16, seed: int = 0) -> list[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(number, batch_size, 1, size, size, generator=generator)
        return [{"image": image, "label": (image > 0.7).float()} for image in images]

    return draw
