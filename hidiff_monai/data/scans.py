"""Volumes to predict, from NIfTI files or DICOM series as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from nibabel.orientations import apply_orientation
from nibabel.spatialimages import HeaderDataError

from hidiff_monai.io.dicom import find_series, read_series
from hidiff_monai.io.files import NIFTI_SUFFIXES, is_nifti, list_nifti, nifti_stem, walk_files
from hidiff_monai.io.geometry import cut_axes, is_invertible, mean_and_deviation, ras_affine

from .reading import Pixels, count_not_finite
from .validate import read_readable

JOINTS = "_-. "  # what may stand before the sequence in the name of a file
WRONG_UNITS = {1: "meter", 3: "micron"}  # NIfTI's codes; 2 is mm, others say nothing


def list_volumes(path: str | Path, sequences: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The volumes to predict in a folder, or the one file itself, as items for `LoadScand`.

    Args:
        path: a NIfTI file, or a folder of them; a DICOM file, or a folder tree with DICOM series; with ``sequences`` a
            patient's folder of NIfTI files, or a folder of such folders.
        sequences: how the names of a patient's files end, in the order of the network's channels, for example
            ``["t1", "t1ce", "t2", "flair"]`` for ``<patient>_t1.nii.gz``, or ``<patient>-t1.nii.gz``, and so on.
            Empty: each file is a case.

    Returns:
        Dictionaries with "id", "image", a path or a list of paths, and "format", "nifti" or "dicom"; sorted.

    Raises:
        ValueError: if there is none, or a sequence is missing; every missing file is named.
    """
    path = Path(path)
    if len(set(sequences)) < len(sequences):
        raise ValueError(f"sequences are {list(sequences)}; expected a name of its own for each channel")
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder; expected NIfTI volumes: correct the path")
    if path.is_file():
        files = [path] if is_nifti(path) else []
    else:
        files = sorted(filter(is_nifti, walk_files(path))) if sequences else list_nifti(path)
    items = _group_by_patient(files, sequences) if sequences else [*_one_item_each(files), *_one_item_a_series(path)]
    if not items:
        names = [f"*_{name}.nii.gz" for name in sequences] or [f"*{suffix}" for suffix in NIFTI_SUFFIXES] + ["DICOM"]
        raise ValueError(f"{path}: no volume found; expected {' or '.join(names)}")
    ids = [item["id"] for item in items]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: several cases are named {repeated[:5]}; expected one of a name: masks would clash")
    return items


def _one_item_each(files: list[Path]) -> list[dict[str, Any]]:
    return [{"id": nifti_stem(file), "image": str(file), "format": "nifti"} for file in files]


def _one_item_a_series(path: Path) -> list[dict[str, Any]]:
    if path.is_file() and is_nifti(path):
        return []
    return [{"id": series.id, "image": list(series.files), "format": "dicom"} for series in find_series(path)]


def _group_by_patient(files: list[Path], sequences: Sequence[str]) -> list[dict[str, Any]]:
    """Files of one folder whose names differ in the sequence at their end only are a patient's."""
    patients: dict[tuple[Path, str, str], dict[str, str]] = {}
    for file in files:
        parts = split_sequence(nifti_stem(file), sequences)
        if parts is not None:
            patient, joint, name = parts
            patients.setdefault((file.parent, patient, joint), {})[name] = str(file)
    missing = [
        f"{folder}/{patient}{joint}{name}.nii.gz"
        for (folder, patient, joint), found in patients.items()
        for name in sequences
        if name not in found
    ]
    if missing:
        raise ValueError(f"{len(missing)} file(s) missing: {missing[:10]}; expected {list(sequences)} of every patient")
    return [
        {"id": key[1], "image": [found[name] for name in sequences], "format": "nifti"}
        for key, found in patients.items()
    ]


def split_sequence(stem: str, sequences: Sequence[str]) -> tuple[str, str, str] | None:
    """Patient, joint and sequence of a file's name, "p1", "_" and "t1" of "p1_t1"; None where it ends in none."""
    for name in sorted(sequences, key=len, reverse=True):  # t1_post before post
        for joint in JOINTS:
            if stem.endswith(joint + name):
                return stem.removesuffix(joint + name), joint, name
    return None


class LoadScand(MapTransform):
    """Reads a case's NIfTI file, one file a channel, or its DICOM series: image (C, X, Y, D) float32 in RAS.

    The result is a MetaTensor, whose affine is that of the reoriented volume. Its metadata say where it came from:
    "filename_or_obj", the (first) file; "source_affine" (4, 4) and "source_shape", the grid of `restore_to_source`, and
    "axes" (3, 2) and "acquired", how that was turned; of NIfTI "nifti_forms" (2, 4, 4) and "nifti_codes", qform and
    sform; of a series "modality", and "slice_files" and "slice_frames" as in `DicomVolume`. The item's "intensity" is
    what `NormalizeByVolumed` needs.

    Args:
        keys: of the images.
        acquired: turns the planes of the picture only, see `cut_axes`, and never cuts across them: for networks
            that learnt from planes such as a heart's short axis, which no axis of the body tells.
    """

    def __init__(self, keys: KeysCollection = "image", acquired: bool = False) -> None:
        super().__init__(keys)
        self.acquired = acquired

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the file names of an item by what the files hold.

        Raises:
            ValueError: if a file cannot be read, is no volume, holds NaN, or lies on another grid than the first; or
                a series is not one volume, see `read_series`.
        """
        item: dict[Hashable, Any] = dict(data)
        for key in self.key_iterator(item):
            files = [item[key]] if isinstance(item[key], str) else list(item[key])
            channels, affine, meta = _read_series(files) if item.get("format") == "dicom" else _read_channels(files)
            axes = cut_axes(affine, self.acquired, meta.pop("is_oriented", True))
            image = np.stack([apply_orientation(channel, axes) for channel in channels]).astype(np.float32)
            shape = list(channels[0].shape)
            moved = ras_affine({"affine": affine, "shape": shape, "slices": [0, None], "axes": axes})
            meta |= {"filename_or_obj": files[0], "source_affine": np.asarray(affine, float), "source_shape": shape}
            meta |= {"axes": axes, "acquired": self.acquired}
            item["intensity"] = [mean_and_deviation(channel) for channel in image]
            item[key] = MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(moved), meta=meta)
        return item


def _read_series(files: list[str]) -> tuple[list[np.ndarray], np.ndarray, dict[str, Any]]:
    volume = read_series(files)
    meta = {
        "modality": volume.modality,
        "slice_files": list(volume.files),
        "slice_frames": list(volume.frames),
    }
    return [volume.array], volume.affine, meta


def _read_channels(files: list[str]) -> tuple[list[np.ndarray], np.ndarray, dict[str, Any]]:
    volumes = [_read(file) for file in files]
    for file, volume in zip(files, volumes, strict=True):
        _require_same_grid(file, volume, files[0], volumes[0])
    assert volumes[0].affine is not None
    header: Any = nibabel.load(files[0]).header
    placed = (_coded_form(header.get_qform), _coded_form(header.get_sform))
    forms = np.stack([np.zeros((4, 4)) if matrix is None else matrix for matrix, _ in placed])
    codes = [int(code) for _, code in placed]
    meta = {"nifti_forms": forms, "nifti_codes": codes, "is_oriented": volumes[0].is_oriented}
    return [volume.array[..., 0] for volume in volumes], volumes[0].affine, meta


def _coded_form(form: Callable[..., tuple[np.ndarray | None, int]]) -> tuple[np.ndarray | None, int]:
    """A form and its code; none where it is not valid, as a quaternion a hair too long, beside the other that is."""
    try:
        return form(coded=True)
    except (ValueError, HeaderDataError):
        return None, 0


def wrong_unit(file: str | Path) -> str | None:
    """The unit of a NIfTI file's affine where it is not the mm that it is taken for."""
    header: Any = nibabel.load(file).header
    return WRONG_UNITS.get(int(header["xyzt_units"]) % 8)


def _read(file: str) -> Pixels:
    pixels = read_readable(file)
    if not np.issubdtype(pixels.array.dtype, np.integer) and not np.issubdtype(pixels.array.dtype, np.floating):
        raise ValueError(f"{file}: voxels of type {pixels.array.dtype}; expected real numbers: export it in grey")
    if len(pixels.spatial_shape) != 3 or pixels.channels != 1 or pixels.affine is None:
        raise ValueError(f"{file}: shape {pixels.array.shape}; expected one volume (X, Y, Z): export it as such")
    if count_not_finite(pixels.array):
        raise ValueError(
            f"{file}: holds NaN, infinity or numbers beyond float32; expected finite values: replace them, or export "
            "it again"
        )
    if not is_invertible(pixels.affine):
        raise ValueError(f"{file}: an affine that cannot be inverted; expected voxel to world in mm: export it again")
    unit = wrong_unit(file)
    if unit is not None:
        raise ValueError(f"{file}: its unit is the {unit}; expected mm: scale the affine and set the unit")
    return pixels


def _require_same_grid(file: str, volume: Pixels, first_file: str, first: Pixels) -> None:
    assert volume.affine is not None and first.affine is not None
    if volume.spatial_shape != first.spatial_shape or not np.allclose(volume.affine, first.affine, atol=1e-3):
        raise ValueError(
            f"{file}: grid {volume.spatial_shape} is not that of {first_file}, {first.spatial_shape}, or their affines "
            "differ; expected one grid for all channels: resample onto the first one's"
        )
