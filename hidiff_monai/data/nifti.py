"""Volumes to predict, from NIfTI files as they are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from hidiff_monai.io.files import NIFTI_SUFFIXES, is_nifti, list_nifti, nifti_stem
from hidiff_monai.io.geometry import mean_and_deviation, ras_affine, to_ras

from .reading import UNREADABLE, Pixels, read_pixels
from .validate import describe_unreadable


def list_volumes(path: str | Path, sequences: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The volumes to predict in a folder, or the one file itself, as items for `LoadNiftid`.

    Args:
        path: a NIfTI file, or a folder of them; with ``sequences`` a patient's folder, or a folder of such folders.
        sequences: how the names of a patient's files end, in the order of the network's channels, for example
            ``["t1", "t1ce", "t2", "flair"]`` for ``<patient>_t1.nii.gz`` and so on. Empty: each file is a case.

    Returns:
        Dictionaries with "id" and "image", a path or a list of paths, sorted.

    Raises:
        ValueError: if there is none, or a sequence is missing; every missing file is named.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder; expected NIfTI volumes: correct the path")
    files = [*filter(is_nifti, [path])] if path.is_file() else list_nifti(path, "**/*" if sequences else "*")
    items = _group_by_patient(files, sequences) if sequences else _one_item_each(files)
    if not items:
        names = [f"*_{name}.nii.gz" for name in sequences] or [f"*{suffix}" for suffix in NIFTI_SUFFIXES]
        raise ValueError(f"{path}: no volume found; expected {' or '.join(names)}")
    ids = [item["id"] for item in items]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: several cases are named {repeated[:5]}; expected one of a name: masks would clash")
    return items


def _one_item_each(files: list[Path]) -> list[dict[str, Any]]:
    return [{"id": nifti_stem(file), "image": str(file)} for file in files]


def _group_by_patient(files: list[Path], sequences: Sequence[str]) -> list[dict[str, Any]]:
    """Files of one folder whose names differ in their last part only are a patient's."""
    patients: dict[tuple[Path, str], dict[str, str]] = {}
    for file in files:
        patient, _, sequence = nifti_stem(file).rpartition("_")
        if sequence in sequences:
            patients.setdefault((file.parent, patient), {})[sequence] = str(file)
    missing = [
        f"{folder}/{patient}_{name}.nii.gz"
        for (folder, patient), found in patients.items()
        for name in sequences
        if name not in found
    ]
    if missing:
        raise ValueError(f"{len(missing)} file(s) missing: {missing[:10]}; expected {list(sequences)} of every patient")
    return [{"id": key[1], "image": [found[name] for name in sequences]} for key, found in patients.items()]


class LoadNiftid(MapTransform):
    """Reads a case's NIfTI file, or one file a channel: image (C, X, Y, D) float32 in RAS, and its "intensity".

    The result is a MetaTensor, whose affine is that of the reoriented volume and whose "filename_or_obj" is the
    (first) file. "intensity" is what `NormalizeByVolumed` needs.

    Args:
        keys: of the images.
    """

    def __init__(self, keys: KeysCollection = "image") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the file names of an item by what the files hold.

        Raises:
            ValueError: if a file cannot be read, is no volume, holds NaN, or lies on another grid than the first.
        """
        item: dict[Hashable, Any] = dict(data)
        for key in self.key_iterator(item):
            files = [item[key]] if isinstance(item[key], str) else item[key]
            volumes = [_read(file) for file in files]
            for file, volume in zip(files, volumes, strict=True):
                _require_same_grid(file, volume, files[0], volumes[0])
            affine = volumes[0].affine
            assert affine is not None
            image = np.stack([to_ras(volume.array[..., 0], affine) for volume in volumes]).astype(np.float32)
            shape = volumes[0].spatial_shape
            moved = ras_affine({"affine": affine, "shape": shape, "slices": [0, None]})
            meta = {"filename_or_obj": files[0]}
            item["intensity"] = [mean_and_deviation(channel) for channel in image]
            item[key] = MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(moved), meta=meta)
        return item


def _read(file: str) -> Pixels:
    try:
        pixels = read_pixels(file)
    except UNREADABLE as error:
        found, expected, mend = describe_unreadable(file, error)
        raise ValueError(f"{file}: {found}; expected {expected}: {mend}") from error
    if len(pixels.spatial_shape) != 3 or pixels.channels != 1 or pixels.affine is None:
        raise ValueError(f"{file}: shape {pixels.array.shape}; expected one volume (X, Y, Z): export it as such")
    if not np.isfinite(pixels.array).all():
        raise ValueError(f"{file}: holds NaN or infinity; expected finite values: replace them, or export it again")
    return pixels


def _require_same_grid(file: str, volume: Pixels, first_file: str, first: Pixels) -> None:
    assert volume.affine is not None and first.affine is not None
    if volume.spatial_shape != first.spatial_shape or not np.allclose(volume.affine, first.affine, atol=1e-3):
        raise ValueError(
            f"{file}: grid {volume.spatial_shape} is not that of {first_file}, {first.spatial_shape}, or their affines "
            "differ; expected one grid for all channels: resample onto the first one's"
        )
