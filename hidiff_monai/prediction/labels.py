"""A reader's labels beside predictions, where there are any: on the grid the network saw, as class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, ornt_transform

from hidiff_monai.data import read_pixels
from hidiff_monai.data.labels import check_label, grey_of, map_values
from hidiff_monai.data.reading import UNREADABLE, Pixels
from hidiff_monai.io import read_segments
from hidiff_monai.io.files import IMAGE_SUFFIXES, NIFTI_SUFFIXES
from hidiff_monai.io.geometry import cut_axes, ras_affine, source_axes
from hidiff_monai.prediction.outputs import source_volume

JPEG_THRESHOLD = 127
ENDINGS = ("_gt", "_label", "_labels", "_seg", "_mask", "")


def find_label(folder: Path | None, case_id: str) -> Path | None:
    """``<id>.nii.gz``, ``<id>_gt.png`` and so on in a folder; None where there is none."""
    if folder is None:
        return None
    suffixes = (*NIFTI_SUFFIXES, *IMAGE_SUFFIXES, ".dcm")
    names = (f"{case_id}{ending}{suffix}" for ending in ENDINGS for suffix in (*suffixes, *map(str.upper, suffixes)))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_label(
    file: Path, meta: dict[str, Any], shape: Sequence[int], names: Sequence[str], rule: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Class numbers on a case's grid, uint8.

    Values mean what they meant in training, if the bundle says so; else they are class numbers.

    Args:
        file: NIfTI on the grid of the image in any orientation, a picture of the photograph's size, or DICOM-SEG
            whose segments are called as the classes.
        meta: of the case's image.
        shape: of the case's grid.
        names: of the classes; of a single one, any two values are background and foreground.
        rule: the bundle's "label_values" (value in the file to class) or "label_threshold", where it has one.

    Raises:
        ValueError: if it cannot be read, lies on another grid, or holds other values or segments than the classes.
    """
    try:
        is_dicom = file.suffix.lower() == ".dcm"
        label = _read_segments(file, meta, names) if is_dicom else _read(file, meta, rule or {})
    except UNREADABLE as error:
        if isinstance(error, ValueError) and str(error).startswith(str(file)):
            raise
        raise ValueError(f"{file}: not readable ({type(error).__name__}); expected a label: export it again") from error
    if label.shape != tuple(shape):
        raise ValueError(f"{file}: shape {label.shape}; expected {tuple(shape)}, as its image: resample it there")
    if rule and not is_dicom:
        return _by_rule(file, label, rule)
    values = np.unique(label)
    if len(names) == 1 and file.suffix.lower() in (".jpg", ".jpeg"):
        return (label > JPEG_THRESHOLD).astype(np.uint8)
    if len(names) == 1 and np.count_nonzero(values) <= 1:
        return (label > 0).astype(np.uint8)
    if not np.isin(values, range(len(names) + 1)).all():
        expected = f"class numbers 0 to {len(names)}" if len(names) > 1 else "0 and one other value"
        raise ValueError(f"{file}: values up to {values.max():g}; expected {expected}: map them")
    return label.astype(np.uint8)


def _by_rule(file: Path, label: np.ndarray, rule: Mapping[str, Any]) -> np.ndarray:
    for found, expected, mend in check_label(Pixels(label[..., None], None), dict(rule)):
        raise ValueError(
            f"{file}: {found}; expected {expected}, as in training: {mend}, or say with --label_values what they mean"
        )
    if "label_threshold" in rule:
        return (label > rule["label_threshold"]).astype(np.uint8)
    return map_values(label, rule["label_values"])


def _read(file: Path, meta: dict[str, Any], rule: Mapping[str, Any]) -> np.ndarray:
    pixels = read_pixels(file)
    grey = grey_of(pixels, rule)
    if grey is None:
        raise ValueError(f"{file}: {pixels.channels} channels; expected one: save the label in grey")
    if pixels.affine is None:
        return grey
    if "source_affine" not in meta:
        raise ValueError(f"{file}: is a volume; expected a picture, as its image")
    geometry = {"affine": pixels.affine, "shape": pixels.spatial_shape, "slices": [0, None]}
    here = {"affine": meta["source_affine"], "shape": meta["source_shape"], "slices": [0, None]}
    if not np.allclose(ras_affine(geometry), ras_affine(here), atol=1e-2):
        raise ValueError(f"{file}: lies elsewhere than its image; expected one grid: resample it onto the image's")
    return _turn(grey, pixels.affine, meta)


def _read_segments(file: Path, meta: dict[str, Any], names: Sequence[str]) -> np.ndarray:
    if "slice_files" not in meta:
        raise ValueError(f"{file}: is DICOM; expected NIfTI or a picture, as its image")
    volume = source_volume(meta)
    segments, labels = read_segments(file, volume)
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise ValueError(f"{file}: segments {unknown}; expected some of {list(names)}: rename or remove them")
    mask = np.zeros(segments.shape[1:], np.uint8)
    for segment, label in zip(segments, labels, strict=True):
        number = list(names).index(label) + 1
        others = np.count_nonzero(segment & (mask != 0) & (mask != number))
        if others:
            raise ValueError(f"{file}: {others} voxels of {label!r} are of other segments too; expected one: part them")
        mask[segment] = number
    return _turn(mask, volume.affine, meta)


def _turn(label: np.ndarray, affine: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """As the image was; the label's own axes may be others."""
    onto_source = ornt_transform(cut_axes(affine), source_axes(meta["source_affine"]))
    return apply_orientation(
        apply_orientation(label, onto_source), source_axes(meta["source_affine"], meta.get("axes"))
    )


def dice_of_class(refined: np.ndarray, label: np.ndarray, number: int) -> float | None:
    """Dice of one class in [0, 1]; None where neither mask has it."""
    ours, theirs = refined == number, label == number
    total = int(ours.sum()) + int(theirs.sum())
    return 2 * int((ours & theirs).sum()) / total if total else None
