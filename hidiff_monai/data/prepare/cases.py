"""One volume from its raw files to memory-mapped slices, or to the problems that forbid it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation

from hidiff_monai.io import hash_file, write_atomically
from hidiff_monai.io.geometry import cut_axes, is_invertible, mean_and_deviation, slice_axis, spacing_mm

from ..labels import map_values
from ..reading import UNREADABLE, Pixels, read_pixels
from ..scans import wrong_unit
from ..validate import Problem, describe_unreadable, find_problems

FORMAT_VERSION = 4  # raise it when the same raw files would give other slices or another geometry


@dataclass(frozen=True)
class RawCase:
    """Where a volume lies in the download.

    Attributes:
        id: its name in the datalist.
        patient: who must not be in two sections.
        section: "training", "validation" or "test".
        images: one file a channel, or all files where the data set keeps a file a slice.
        label: its label; the image file itself where one file holds both.
    """

    id: str
    patient: str
    section: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class VolumeSet:
    """What all volumes of a data set have in common: the head of its datalist, and how they are cut.

    Attributes:
        label_values: value in the raw file to class.
        channels: images a volume.
        depth: slices a raw volume must have, None for any number.
        discard: slices that are left out at the bottom and at the top.
        labelled_names: the classes that were labelled at all, where that is not every one of `label_names`.
        acquired: keeps the planes that were acquired, see `cut_axes`, instead of turning volumes to RAS.
    """

    name: str
    description: str
    reference: str
    licence: str
    label_values: dict[int, int]
    label_names: list[str]
    channels: int = 1
    depth: int | None = None
    discard: tuple[int, int] = (0, 0)
    labelled_names: list[str] | None = None
    acquired: bool = False


@dataclass(frozen=True)
class RawVolume:
    """A volume as the download holds it: image (X, Y, Z, C), label (X, Y, Z) and their affine (4, 4).

    Attributes:
        is_oriented: see `Pixels`.
        has_spacing: false where the download kept no voxel size: the affine then counts voxels, not mm.
    """

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    is_oriented: bool = True
    has_spacing: bool = True


Reader = Callable[[RawCase, VolumeSet], "RawVolume | list[Problem]"]


def problem_of(case: RawCase, key: str, file: Path, found: str, expected: str, mend: str) -> Problem:
    """A problem with one file of a case."""
    return Problem(case.id, key, str(file), found, expected, mend)


def read_nifti(case: RawCase, volume_set: VolumeSet) -> RawVolume | list[Problem]:
    """Reads one file a channel and the label; every file is looked at, even if an earlier one is broken."""
    problems: list[Problem] = []
    expected = {"channels": 1, "label_values": volume_set.label_values}
    read: list[Pixels] = []
    for key, file in [*(("image", image) for image in case.images), ("label", case.label)]:
        if not file.is_file():
            found, mend = "no such file", "download it again, or take the whole case out of the folder"
            problems.append(problem_of(case, key, file, found, "an image and a label for every case", mend))
            continue
        try:
            pixels = read_pixels(file)
        except UNREADABLE as error:
            problems.append(problem_of(case, key, file, *describe_unreadable(file, error)))
            continue
        first = read[0] if read else None
        problems += [problem_of(case, key, file, *finding) for finding in find_problems(key, pixels, first, expected)]
        problems += _check_other_channels(case, key, file, pixels, first)
        problems += _check_grid(case, key, file, pixels, volume_set)
        read.append(pixels)
    if problems or read[0].affine is None:
        return problems
    image = np.concatenate([pixels.array for pixels in read[:-1]], axis=-1)
    return RawVolume(image, read[-1].array[..., 0], read[0].affine, read[0].is_oriented)


def _check_other_channels(case: RawCase, key: str, file: Path, pixels: Pixels, first: Pixels | None) -> list[Problem]:
    """`find_problems` compares the grids of labels only: here the second to last channel."""
    if key == "label" or first is None or pixels.affine is None or first.affine is None:
        return []
    if pixels.spatial_shape == first.spatial_shape and np.allclose(pixels.affine, first.affine, atol=1e-3):
        return []
    found = f"grid {pixels.spatial_shape}, affine {pixels.affine[:3].round(3).tolist()}"
    expected = f"those of {case.images[0].name}: {first.spatial_shape}, {first.affine[:3].round(3).tolist()}"
    return [problem_of(case, key, file, found, expected, "download it again, or resample onto that grid")]


def _check_grid(case: RawCase, key: str, file: Path, pixels: Pixels, volume_set: VolumeSet) -> list[Problem]:
    """A volume needs three axes, an affine that can be inverted, and the depth its cut was made for."""
    mend = "download or export it again"
    if len(pixels.spatial_shape) != 3 or pixels.affine is None:
        return [problem_of(case, key, file, f"grid {pixels.spatial_shape}", "a NIfTI volume (X, Y, Z)", mend)]
    if not is_invertible(pixels.affine):
        return [problem_of(case, key, file, "an affine that cannot be inverted", "voxel to world in mm", mend)]
    unit = wrong_unit(file)
    if unit is not None:
        return [problem_of(case, key, file, f"the unit {unit}", "mm", "scale the affine and set the unit")]
    depth = pixels.spatial_shape[slice_axis(cut_axes(pixels.affine, volume_set.acquired))]
    if volume_set.depth not in (None, depth):
        return [problem_of(case, key, file, f"{depth} axial slices", f"{volume_set.depth}", mend)]
    return []


def current_geometry(case: RawCase, volume_set: VolumeSet, folder: Path) -> dict[str, Any] | None:
    """The geometry of a case that was prepared before from these very files, or None where it must be done (again)."""
    try:
        geometry = json.loads((folder / f"{case.id}.json").read_text(encoding="utf-8"))
        if geometry["made_from"] != _made_from(case, volume_set):
            return None
        for key in ("image", "label"):
            np.load(folder / f"{case.id}_{key}.npy", mmap_mode="r")  # fails where the file is not complete
    except (OSError, ValueError, KeyError):
        return None
    return geometry


def write_case(case: RawCase, volume: RawVolume, volume_set: VolumeSet, folder: Path) -> dict[str, Any]:
    """Writes image (D, C, X, Y), label (D, X, Y) and, last, the geometry of a case; returns the geometry."""
    made_from = _made_from(case, volume_set)
    axes = cut_axes(volume.affine, volume_set.acquired, volume.is_oriented)
    label = map_values(apply_orientation(volume.label, axes), volume_set.label_values)
    image = apply_orientation(volume.image, axes)
    intensity = [mean_and_deviation(channel) for channel in np.moveaxis(image, -1, 0)]
    kept = (volume_set.discard[0], label.shape[2] - volume_set.discard[1])
    label = np.moveaxis(label[..., slice(*kept)], 2, 0)
    image = _in_smallest_type(np.moveaxis(image[..., slice(*kept), :], (2, 3), (0, 1)))
    files = {key: folder / f"{case.id}_{key}.npy" for key in ("image", "label")}
    (folder / f"{case.id}.json").unlink(missing_ok=True)  # from here on the case is incomplete
    for key, array in (("image", image), ("label", label)):
        with write_atomically(files[key]) as temporary, open(temporary, "wb") as file:
            np.save(file, np.ascontiguousarray(array))
    geometry: dict[str, Any] = {
        "shape": [int(size) for size in volume.label.shape],
        "affine": np.asarray(volume.affine, float).tolist(),
        "axis_codes": "".join(nibabel.aff2axcodes(volume.affine)),
        "slices": list(kept),
        "foreground": [int(number) for number in np.flatnonzero(label.any(axis=(1, 2)))],
        "voxels": np.bincount(label.ravel(), minlength=len(volume_set.label_names) + 1).tolist(),
        "intensity": intensity,
        "sha256": {key: hash_file(file) for key, file in files.items()},
        "made_from": made_from,
        **({"axes": axes.astype(int).tolist()} if volume_set.acquired else {}),
    }
    geometry["spacing"] = spacing_mm(geometry) if volume.has_spacing else None
    with write_atomically(folder / f"{case.id}.json") as temporary:
        temporary.write_text(json.dumps(geometry) + "\n", encoding="utf-8")
    return geometry


def _made_from(case: RawCase, volume_set: VolumeSet) -> dict[str, Any]:
    """Everything a prepared case depends on, as JSON gives it back."""
    stats = [(file.name, file.stat()) for file in (*case.images, case.label)]  # in the order of the channels
    return {
        "version": FORMAT_VERSION,
        "files": [{"name": name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns} for name, stat in stats],
        "label_values": {str(value): number for value, number in volume_set.label_values.items()},
        "discard": list(volume_set.discard),
        **({"acquired": True} if volume_set.acquired else {}),
    }


def _in_smallest_type(image: np.ndarray) -> np.ndarray:
    """int16 where that loses nothing, else float32; looked at slice by slice, because volumes can be large."""
    limits = np.iinfo(np.int16)
    fits = all(
        limits.min <= plane.min() and plane.max() <= limits.max and np.array_equal(plane, np.rint(plane))
        for plane in image
    )
    return image.astype(np.int16 if fits else np.float32)
