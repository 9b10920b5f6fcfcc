"""Fixtures and rules for every test: one seed, two threads, and real data that is never skipped in silence."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

REAL_DATA_FIXTURES = {"data_root", "drive_dir"}


def find_data_root() -> Path:
    """The folder of real datasets: HIDIFF_DATA, by default ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("HIDIFF_DATA") or default)


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(2)


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
