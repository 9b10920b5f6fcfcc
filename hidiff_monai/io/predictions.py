"""Predictions as files on the grid of their source."""

from __future__ import annotations

import gzip
import logging
import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.transforms import Transform
from PIL import Image

from hidiff_monai.io.files import require_writable, write_atomically
from hidiff_monai.io.geometry import restore_to_source


class SavePrediction(Transform):
    """Writes ``<name>_mask.png`` (0 background, 255 foreground) and ``<name>_entropy.png`` (0 to log 2 as 0 to 255).

    Takes items with *image*, a MetaTensor that knows its file, and *pred*, a dictionary with *refined* and *entropy*,
    (1, H, W) each; returns them unchanged.

    Args:
        output_dir: the folder to write to.
        threshold: probability above which a pixel is foreground.
    """

    def __init__(self, output_dir: str | Path, threshold: float = 0.5) -> None:
        self.output_dir = Path(output_dir)
        self.threshold = threshold
        self.logger = logging.getLogger(__name__)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Writes the two files of one case."""
        name = Path(item["image"].meta["filename_or_obj"]).stem
        require_writable(self.output_dir)
        mask = item["pred"]["refined"][0] > self.threshold
        if not mask.any():
            self.logger.warning(f"{name}: the mask is empty, no pixel is above the threshold of {self.threshold}")
        self._write(f"{name}_mask.png", mask)
        self._write(f"{name}_entropy.png", item["pred"]["entropy"][0] / math.log(2))
        self.logger.info(f"{name}: wrote {self.output_dir / name}_mask.png and _entropy.png")
        return item

    def _write(self, name: str, values: torch.Tensor) -> None:
        pixels = (torch.as_tensor(values).float().cpu().numpy() * 255).round().astype(np.uint8)
        with write_atomically(self.output_dir / name) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")


class SaveVolumePrediction(Transform):
    """Writes ``<name>_mask.nii.gz`` (classes, uint8) and ``<name>_entropy.nii.gz`` (nats, float32).

    Shape, axes and affine are those of the NIfTI file that was predicted. Takes items with "id", *image*, a MetaTensor
    that knows its (first) file, and *pred*, a dictionary with *refined* and *entropy*, (1, X, Y, D) in RAS; returns
    them unchanged.

    Args:
        output_dir: the folder to write to.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Writes the two files of one case."""
        source = nibabel.load(item["image"].meta["filename_or_obj"])
        require_writable(self.output_dir)
        for key, name, dtype in (("refined", "mask", np.uint8), ("entropy", "entropy", np.float32)):
            values = torch.as_tensor(item["pred"][key])[0].cpu().numpy()
            geometry = {"affine": source.affine, "shape": source.shape[:3], "slices": [0, values.shape[-1]]}  # type: ignore[attr-defined]
            array, affine = restore_to_source(values, geometry)
            image = nibabel.Nifti1Image(array.astype(dtype), affine)
            with write_atomically(self.output_dir / f"{item['id']}_{name}.nii.gz") as temporary:
                temporary.write_bytes(gzip.compress(image.to_bytes()))
        return item
