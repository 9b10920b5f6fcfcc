"""Predictions as files on the grid of their source."""

from __future__ import annotations

import gzip
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.transforms import Transform

from hidiff_monai.io.files import require_writable, write_atomically
from hidiff_monai.io.geometry import restore_to_source
from hidiff_monai.io.images import write_mask

MAX_ENTROPY_NATS = math.log(2)


class SavePrediction(Transform):
    """Writes ``<name>_mask.png`` and ``<name>_entropy.png`` on the grid of the photograph, see `write_photograph_maps`.

    Classes that overlap have a mask each, ``<name>_1_mask.png`` and so on, beside the entropy.

    Takes items with *image*, a MetaTensor that knows its file, and *pred*, a dictionary with *refined* and *entropy*,
    (K, H, W) each; returns them unchanged.

    Args:
        output_dir: the folder to write to.
        threshold: probability above which a pixel is foreground, where K = 1 or classes overlap.
        exclusive: of K >= 2 classes, whether a pixel has exactly one; to be said then.
    """

    def __init__(self, output_dir: str | Path, threshold: float = 0.5, exclusive: bool | None = None) -> None:
        self.output_dir = Path(output_dir)
        self.threshold = threshold
        self.exclusive = exclusive
        self.logger = logging.getLogger(__name__)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Writes the two files of one case."""
        meta = item["image"].meta
        name = Path(meta["filename_or_obj"]).stem
        require_writable(self.output_dir)
        masks = self._masks(torch.as_tensor(item["pred"]["refined"]))
        if not any(mask.any() for mask in masks.values()):
            self.logger.warning(f"{name}: the mask is empty, no pixel is above the threshold")
        entropy = torch.as_tensor(item["pred"]["entropy"]).float().mean(dim=0).cpu().numpy()
        files = write_photograph_maps(self.output_dir / name, masks, entropy, int(meta["orientation"]))
        self.logger.info(f"{name}: wrote {', '.join(map(str, files))}")
        return item

    def _masks(self, probability: torch.Tensor) -> dict[str, np.ndarray]:
        """By the ending of the file's name: 0 and 255, or the class numbers of exclusive classes."""
        if len(probability) > 1 and self.exclusive is None:
            raise ValueError(
                f"SavePrediction has {len(probability)} classes and no word of whether they exclude each other: write "
                '"exclusive": "$@network_def.exclusive" into its entry in inference.json'
            )
        if self.exclusive:
            return {"mask": to_classes(probability)}
        masks = (probability.cpu() > self.threshold).numpy().astype(np.uint8) * 255
        if len(masks) == 1:
            return {"mask": masks[0]}
        return {f"{number}_mask": mask for number, mask in enumerate(masks, 1)}


class SaveVolumePrediction(Transform):
    """Writes ``<id>_mask.nii.gz`` and ``<id>_entropy.nii.gz`` on the grid of the source, see `write_volume_maps`.

    Takes items with "id", *image*, a MetaTensor from `LoadScand`, and *pred*, a dictionary with *refined* and
    *entropy*, (1, X, Y, D) in RAS; returns them unchanged.

    Args:
        output_dir: the folder to write to.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Writes the two files of one case."""
        require_writable(self.output_dir)
        meta = item["image"].meta
        maps = [torch.as_tensor(item["pred"][key])[0].cpu().numpy() for key in ("refined", "entropy")]
        mask, entropy = (on_source_grid(values, meta) for values in maps)
        write_volume_maps(self.output_dir / item["id"], mask, entropy, meta)
        return item


def to_classes(probability: torch.Tensor, threshold: float = 0.5) -> np.ndarray:
    """(K, *spatial) in [0, 1] -> class numbers, uint8: 1 above the threshold, or of K >= 2 the likeliest."""
    probability = torch.as_tensor(probability).cpu()
    classes = probability[0] > threshold if len(probability) == 1 else probability.argmax(dim=0)
    return classes.numpy().astype(np.uint8)


def write_photograph_maps(
    stem: Path, masks: Mapping[str, np.ndarray], entropy: np.ndarray, orientation: int
) -> list[Path]:
    """Writes a PNG for each mask, ``<stem>_<key>.png``, and ``<stem>_entropy.png``, and returns them.

    Args:
        stem: folder and beginning of the names.
        masks: (H, W) each, uint8, upright: 0 and 255, or class numbers where there are several.
        entropy: (H, W) in nats; 0 to log 2 becomes 0 to 255.
        orientation: EXIF's, of the photograph.
    """
    grey = (np.clip(entropy / MAX_ENTROPY_NATS, 0, 1) * 255).round()
    maps = {**masks, "entropy": grey.astype(np.uint8)}
    files = {stem.with_name(f"{stem.name}_{key}.png"): pixels for key, pixels in maps.items()}
    for file, pixels in files.items():
        write_mask(file, pixels, orientation)
    return list(files)


def on_source_grid(values: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """(X, Y, D), turned as the image was -> the same voxels with shape and axes of the source.

    Args:
        values: a map of a case.
        meta: of the case's *image*, from `LoadScand`.
    """
    shape = [int(size) for size in meta["source_shape"]]
    geometry = {"affine": np.asarray(meta["source_affine"]), "shape": shape, "slices": [0, values.shape[-1]]}
    geometry["axes"] = meta.get("axes")
    return restore_to_source(values, geometry)[0]


def write_volume_maps(stem: Path, mask: np.ndarray, entropy: np.ndarray, meta: Mapping[str, Any]) -> list[Path]:
    """Writes ``<stem>_mask.nii.gz`` (class numbers, uint8) and ``<stem>_entropy.nii.gz`` (nats, float32), returns them.

    Args:
        stem: folder and beginning of the names.
        mask: (X, Y, Z) on the grid of the source.
        entropy: likewise.
        meta: of the case's *image*, from `LoadScand`.
    """
    files = [stem.with_name(f"{stem.name}_{name}.nii.gz") for name in ("mask", "entropy")]
    for file, values, dtype in zip(files, (mask, entropy), (np.uint8, np.float32), strict=True):
        image = nibabel.Nifti1Image(values.astype(dtype), np.asarray(meta["source_affine"]))
        image.header.set_xyzt_units("mm")
        if "nifti_codes" in meta:  # other readers place a file by the one that nibabel does not, or by none
            qform, sform = (
                (np.asarray(matrix) if code else None, int(code))
                for matrix, code in zip(meta["nifti_forms"], meta["nifti_codes"], strict=True)
            )
            image.header.set_qform(*qform)
            image.header.set_sform(*sform)
        with write_atomically(file) as temporary:
            temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6))
    return files
