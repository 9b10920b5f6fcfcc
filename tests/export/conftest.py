"""Untrained bundles of three narrow levels, and a picture or scan for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hidiff_monai.networks import HiDiff
from hidiff_monai.prediction.model import build_part, parse_config, read_config

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
CHANNELS = {"synapse": 1, "acdc": 1, "brats": 4}
Made = Callable[[str], dict[str, Any]]


@torch.no_grad()
def imitate_training(network: HiDiff) -> None:
    """Statistics, thresholds and shifts as training leaves them: of those drawn, many signs hang on an exact tie."""
    for name, parameter in network.named_parameters():
        if "threshold" in name or "shifts" in name or "correction" in name:
            nn.init.normal_(parameter, std=0.1)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)


@pytest.fixture(scope="session")
def overrides_of() -> Callable[[str], dict[str, Any]]:
    """A bundle's network with three levels of four channels, at 32 x 32 where the bundle resizes."""

    def make(name: str) -> dict[str, Any]:
        config = read_config(BUNDLES / name, "inference.json")
        size = {key: [32, 32] for key in ("crop_size", "image_size", "window_size") if key in config}
        return {"segmentor#channels": [4] * 3, "refiner#channels": [4] * 3, "num_inference_steps": 1, **size}

    return make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, overrides_of: Callable[[str], dict[str, Any]]) -> Made:
    """Bundle, checkpoint, image and overrides, as ``export_bundle`` takes them."""
    folder = tmp_path_factory.mktemp("made")

    def make(name: str) -> dict[str, Any]:
        overrides = overrides_of(name)
        parser = parse_config(read_config(BUNDLES / name, "inference.json"), overrides, {"device": torch.device("cpu")})
        torch.manual_seed(0)
        network = build_part(parser, "network", overrides)
        imitate_training(network)
        checkpoint = folder / f"{name}.pt"
        torch.save(network.state_dict(), checkpoint)
        image = _draw(name, folder)
        return {"bundle": BUNDLES / name, "checkpoint": checkpoint, "image": image, "overrides": overrides}

    return make


def _draw(name: str, folder: Path) -> Path:
    generator = np.random.default_rng(0)
    if name not in CHANNELS:
        Image.fromarray(generator.integers(0, 255, (41, 38, 3), np.uint8)).save(folder / "picture.png")
        return folder / "picture.png"
    if name != "brats":
        volume = generator.normal(100, 20, (42, 38, 3)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "scan.nii.gz")
        return folder / "scan.nii.gz"
    patient = folder / "BraTS2021_00000"
    patient.mkdir(exist_ok=True)
    for contrast in ("t1", "t1ce", "t2", "flair"):
        volume = generator.normal(100, 20, (42, 38, 3)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), patient / f"{patient.name}_{contrast}.nii.gz")
    return patient
