"""Made-up downloads: small images whose files have the names that the sites deliver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
