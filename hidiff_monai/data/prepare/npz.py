"""Synapse as many groups pass it on: `case0005_slice000.npz` for training, `case0001.npy.h5` volumes for testing."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..reading import UNREADABLE
from ..validate import Problem, describe_unreadable
from .cases import RawCase, RawVolume, VolumeSet, problem_of

HU_RANGE = (-125.0, 275.0)  # what [0, 1] stands for
GRID = np.eye(4)  # this layout kept neither spacing nor orientation: voxels, on axes as they lie in the arrays


def find_preprocessed(source: Path, section_of: Callable[[str], str]) -> list[RawCase]:
    """The scans of which slices or a volume lie anywhere below a folder.

    Raises:
        ValueError: if there is none, or there are volumes that cannot be read without h5py.
    """
    slices: dict[str, list[Path]] = {}
    for file in sorted(source.rglob("case????_slice*.npz"), key=lambda file: (file.name[:8], _number(file))):
        slices.setdefault(file.name[4:8], []).append(file)
    volumes = sorted(source.rglob("case????.npy.h5"))
    if not slices and not volumes:
        raise ValueError(
            f"{source}: neither img/ and label/ (also in RawData/Training/) nor case0005_slice000.npz or "
            f"case0001.npy.h5; expected Synapse in one of these layouts: correct source"
        )
    if volumes and importlib.util.find_spec("h5py") is None:
        raise ValueError(f"{volumes[0]} needs the package h5py, which is absent: pip install h5py")
    found = [(number, tuple(files)) for number, files in slices.items()]
    found += [(file.name[4:8], (file,)) for file in volumes]
    return [RawCase(number, number, section_of(number), files, files[0]) for number, files in found]


def read_preprocessed(case: RawCase, volume_set: VolumeSet) -> RawVolume | list[Problem]:
    """Reads the slices of a scan, or its volume, with the image back in Hounsfield units."""
    is_volume = case.images[0].name.endswith(".h5")
    planes = []
    problems = [] if is_volume else _find_gaps(case)
    for file in case.images:
        try:
            image, label = _read_h5(file) if is_volume else _read_npz(file)
        except (*UNREADABLE, KeyError, TypeError, zipfile.BadZipFile) as error:
            problems.append(problem_of(case, "image", file, *describe_unreadable(file, error)))
            continue
        problems += _check(case, file, image, label, volume_set)
        planes.append((image, label))
    shapes = {image.shape[-2:] for image, _ in planes}
    if len(shapes) > 1:
        mend = "download them again"
        problems.append(problem_of(case, "image", case.images[0], f"slices of {sorted(shapes)}", "one size", mend))
    if problems:
        return problems
    join = np.concatenate if is_volume else np.stack
    image = np.moveaxis(join([image for image, _ in planes]), 0, 2)
    label = np.moveaxis(join([label for _, label in planes]), 0, 2)
    return RawVolume(_to_hu(image)[..., None], label, GRID, has_spacing=False)


def _read_npz(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of a slice, (X, Y) each."""
    with np.load(file) as content:
        return content["image"], content["label"]


def _read_h5(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of a volume, (D, X, Y) each."""
    import h5py

    with h5py.File(file, "r") as content:
        return content["image"][:], content["label"][:]


def _find_gaps(case: RawCase) -> list[Problem]:
    """Slices are numbered from 0 on; where the last ones are missing nothing tells."""
    numbers = [_number(file) for file in case.images]
    missing = sorted(set(range(max(numbers) + 1)) - set(numbers))
    if not missing and len(numbers) == len(set(numbers)):
        return []
    found = f"slices {missing} missing" if missing else "the same slice twice"
    mend = "download them again, or remove the copies"
    return [problem_of(case, "image", case.images[0], found, f"each of 0 to {max(numbers)} once", mend)]


def _number(file: Path) -> int:
    """Of a slice, from its name, which may have no leading zeros."""
    return int(re.findall(r"_slice(\d+)", file.name)[0])


def _check(case: RawCase, file: Path, image: np.ndarray, label: np.ndarray, volume_set: VolumeSet) -> list[Problem]:
    problems = []
    if image.shape != label.shape:
        found = f"image of {image.shape}, label of {label.shape}"
        problems.append(problem_of(case, "label", file, found, "the same grid", "download it again"))
    if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        found = f"grey values from {image.min():g} to {image.max():g}"
        mend = f"scale Hounsfield units {HU_RANGE} to [0, 1]"
        problems.append(problem_of(case, "image", file, found, "values in [0, 1]", mend))
    strange = np.setdiff1d(label, list(volume_set.label_values))
    if strange.size:
        found = f"values {strange[:5].tolist()}"
        mend = "number the organs 1 to 8 and leave out the others"
        problems.append(problem_of(case, "label", file, found, f"0 to {len(volume_set.label_names)}", mend))
    return problems


def _to_hu(image: np.ndarray) -> np.ndarray:
    """[0, 1] back to Hounsfield units, rounded where that only undoes the rounding of float32."""
    low, high = HU_RANGE
    units = image.astype(np.float32) * (high - low) + low
    whole = np.rint(units)
    return whole if np.abs(units - whole).max() < 0.01 else units
