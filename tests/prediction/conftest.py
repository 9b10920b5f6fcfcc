"""Untrained bundles of tiny width, and made-up cases for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
TINY = {"segmentor#channels": [4] * 6, "refiner#channels": [4] * 6}
OVERRIDES = {
    "acdc": {**TINY, "crop_size": [32, 32]},
    "kvasir_seg": {**TINY, "image_size": [32, 32]},
    "synapse": {**TINY, "crop_size": [32, 32]},
}


@pytest.fixture(scope="session")
def bundle_arguments(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Bundle, checkpoint and overrides of an untrained network, as `run_prediction` takes them."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str) -> dict[str, Any]:
        file = folder / f"{name}.pt"
        if not file.is_file():
            parser = ConfigParser()
            parser.read_config(BUNDLES / name / "configs" / "inference.json")
            parser.update({**OVERRIDES[name], "device": torch.device("cpu")})
            torch.manual_seed(0)
            torch.save(parser.get_parsed_content("network").state_dict(), file)
        arguments = {"bundle": BUNDLES / name, "checkpoint": file, "overrides": OVERRIDES[name]}
        return {**arguments, "device": "cpu"}

    return make


@pytest.fixture
def write_volume() -> Callable[..., np.ndarray]:
    """Writes a NIfTI volume of noise and returns its voxels."""

    def write(file: Path, shape: tuple[int, ...] = (20, 24, 3), affine: np.ndarray | None = None) -> np.ndarray:
        file.parent.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(len(file.name)).normal(100, 20, shape).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.5, 1.5, 8, 1]) if affine is None else affine), file)
        return voxels

    return write


@pytest.fixture
def write_photograph() -> Callable[..., None]:
    """Writes a coloured picture of noise."""

    def write(file: Path, seed: int = 0, size: tuple[int, int] = (40, 48)) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(file)

    return write
