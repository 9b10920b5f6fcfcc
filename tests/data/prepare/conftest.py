"""Made-up downloads: small images and volumes whose files have the names that the sites deliver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

# Left-posterior-superior axes with unequal voxels and an origin: reorienting has something to do.
LPS = np.array([[-0.8, 0, 0, 90], [0, -0.7, 0, 120], [0, 0, 3, -40], [0, 0, 0, 1.0]])


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., None]:
    """Writes an array as NIfTI, and the folders above it."""

    def write(file: Path, array: np.ndarray, affine: np.ndarray = LPS) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, affine), file)

    return write


@pytest.fixture(scope="session")
def draw_volume() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Draws an int16 image and a label with every one of the values in the slices above the lowest."""

    def draw(seed: int, values: tuple[int, ...], shape: tuple[int, int, int] = (12, 10, 6)) -> tuple:
        generator = np.random.default_rng(seed)
        label = generator.choice(np.array(values, np.uint8), shape)
        label[..., 0] = 0
        return generator.integers(-1000, 1000, shape, dtype=np.int16), label

    return draw


@pytest.fixture(scope="session")
def draw_picture() -> Callable[[Path], None]:
    """Writes a colour image of 24 × 16 that is unlike every other, in the format of its suffix."""
    rng = np.random.default_rng(0)

    def draw(file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(file, quality=95)

    return draw


@pytest.fixture(scope="session")
def draw_mask() -> Callable[..., None]:
    """Writes a square as a mask of 24 × 16, in the format of the file's suffix and a mode of PIL."""

    def draw(file: Path, mode: str = "L") -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((16, 24), np.uint8)
        mask[4:12, 4:12] = 255
        Image.fromarray(mask).convert(mode).save(file)

    return draw
