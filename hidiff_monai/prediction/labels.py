"""A reader's labels beside predictions, where there are any: on the grid the network saw, as class numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hidiff_monai.data import read_pixels
from hidiff_monai.data.reading import UNREADABLE
from hidiff_monai.io import read_segmentation
from hidiff_monai.io.files import IMAGE_SUFFIXES, NIFTI_SUFFIXES
from hidiff_monai.io.geometry import ras_affine, to_ras
from hidiff_monai.prediction.outputs import source_volume

ENDINGS = ("_gt", "_label", "_labels", "_seg", "_mask", "")


def find_label(folder: Path | None, case_id: str) -> Path | None:
    """``<id>.nii.gz``, ``<id>_gt.png`` and so on in a folder; None where there is none."""
    if folder is None:
        return None
    names = (
        f"{case_id}{ending}{suffix}" for ending in ENDINGS for suffix in (*NIFTI_SUFFIXES, *IMAGE_SUFFIXES, ".dcm")
    )
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_label(file: Path, meta: dict[str, Any], shape: tuple[int, ...], num_classes: int) -> np.ndarray:
    """Class numbers on a case's grid, uint8.

    Args:
        file: NIfTI on the grid of the image in any orientation, a picture of the photograph's size, or DICOM-SEG.
        meta: of the case's image.
        shape: of the case's grid.
        num_classes: K, without the background; of one class, whatever is not dark counts.

    Raises:
        ValueError: if it cannot be read, lies on another grid, or holds other values than 0 ... K.
    """
    try:
        label = _read(file, meta)
    except UNREADABLE as error:
        if isinstance(error, ValueError) and str(error).startswith(str(file)):
            raise
        raise ValueError(f"{file}: not readable ({type(error).__name__}); expected a label: export it again") from error
    if label.shape != shape:
        raise ValueError(f"{file}: shape {label.shape}; expected {shape}, as its image: resample it onto that grid")
    if num_classes == 1:
        return (label > (127 if label.max() > 1 else 0)).astype(np.uint8)
    if not np.isin(label, range(num_classes + 1)).all():
        largest = label.max()
        raise ValueError(f"{file}: values up to {largest:g}; expected class numbers 0 to {num_classes}: map them")
    return label.astype(np.uint8)


def _read(file: Path, meta: dict[str, Any]) -> np.ndarray:
    if file.suffix == ".dcm":
        volume = source_volume(meta)
        return to_ras(read_segmentation(file, volume), volume.affine)
    pixels = read_pixels(file)
    if pixels.affine is None:
        return pixels.array[..., 0]
    geometry = {"affine": pixels.affine, "shape": pixels.spatial_shape, "slices": [0, None]}
    here = {"affine": meta["source_affine"], "shape": meta["source_shape"], "slices": [0, None]}
    if not np.allclose(ras_affine(geometry), ras_affine(here), atol=1e-2):
        raise ValueError(f"{file}: lies elsewhere than its image; expected one grid: resample it onto the image's")
    return to_ras(pixels.array[..., 0], pixels.affine)


def dice_of_class(refined: np.ndarray, label: np.ndarray, number: int) -> float | None:
    """Dice of one class in [0, 1]; None where neither mask has it."""
    ours, theirs = refined == number, label == number
    total = int(ours.sum()) + int(theirs.sum())
    return 2 * int((ours & theirs).sum()) / total if total else None
