"""Prepared volumes: single slices for training and whole volumes for evaluation, read from memory-mapped files."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks import one_hot
from monai.transforms import MapTransform

from hidiff_monai.io.geometry import ras_affine

from .datalist import load_datalist, read_datalist
from .leakage import check_leakage


def load_volumes(datalist_file: str | Path, dataset_dir: str | Path, section: str) -> list[dict[str, Any]]:
    """The prepared volumes of a section, one item each, for `LoadVolumed`.

    To the datalist's keys come "intensity", for `NormalizeByVolumed`, "affine", voxel to world in mm, (4, 4), and
    "acquired", whether planes were kept as they were acquired, see `cut_axes`.
    A "spacing" that is null, because it is unknown, is left out: a loader could not put it into a batch.

    Sections are compared by case and patient; `hidiff prepare` has compared them by content, which takes minutes here.

    Raises:
        ValueError: if the datalist is malformed, leaks, lists no prepared volumes, or files are missing.
    """
    return [case for case, _ in _read_cases(datalist_file, dataset_dir, section)]


def load_slices(
    datalist_file: str | Path, dataset_dir: str | Path, section: str | Sequence[str], empty_share: float = 1.0
) -> list[dict[str, Any]]:
    """The slices of a section, one item each, for `LoadSliced`.

    A slice without any foreground shows no shape and there can be many of them, yet a network that never saw one
    paints organs into all of them: keep a share for training, and all of them, as by default, for what is reported.

    Args:
        datalist_file: the datalist that `hidiff prepare` wrote.
        dataset_dir: the folder its paths are relative to.
        section: "training", "validation" or "test", or a list of these.
        empty_share: share in [0, 1] of the slices without foreground to keep, evenly spaced.

    Returns:
        The case's dictionary and "slice", from 0 at the bottom, for each slice.

    Raises:
        ValueError: if the share is out of range, or `load_volumes` finds something wrong.
    """
    if not 0 <= empty_share <= 1:
        raise ValueError(f"got empty_share {empty_share}; expected a share in [0, 1]: 1 keeps all slices")
    items, num_empty = [], 0
    for case, geometry in _read_cases(datalist_file, dataset_dir, section):
        foreground = frozenset(geometry["foreground"])
        for number in range(case["slices"]):
            if number not in foreground:
                num_empty += 1
                if int(num_empty * empty_share) == int((num_empty - 1) * empty_share):
                    continue  # the count times the share passes no whole number
            items.append({**case, "slice": number})
    return items


def read_geometry(case: Mapping[Any, Any]) -> dict[str, Any]:
    """What is known about a prepared volume and its source, see `restore_to_source`.

    Args:
        case: an item of `load_volumes` or `load_slices`.
    """
    file = Path(case["image"]).with_name(f"{case['id']}.json")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: not readable ({error}); expected a prepared case: run `hidiff prepare`") from error


class LoadSliced(MapTransform):
    """Reads one slice of image and label, and nothing else of the volume.

    The image becomes a float32 tensor (C, X, Y), the label a uint8 tensor (1, X, Y) of classes.

    Args:
        keys: of (D, C, X, Y) images and (D, X, Y) labels; which slice is under "slice".
        allow_missing_keys: passes over keys that an item does not have.
    """

    def __init__(self, keys: KeysCollection = ("image", "label"), allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the files of an item by what they hold in that slice."""
        item = dict(data)
        for key in self.key_iterator(item):
            stack = np.load(item[key], mmap_mode="r")
            item[key] = torch.from_numpy(_with_channels(stack[item["slice"] : item["slice"] + 1])[:, 0])
        return item


class LoadVolumed(MapTransform):
    """Reads a whole prepared volume: image (C, X, Y, D) float32, label (1, X, Y, D) uint8, as MetaTensors.

    Their affine is that of the prepared volume, as `hidiff prepare` turned it and cut to its slices.

    Args:
        keys: of (D, C, X, Y) images and (D, X, Y) labels; "affine" is beside them, as `load_volumes` gives it.
        allow_missing_keys: passes over keys that an item does not have.
    """

    def __init__(self, keys: KeysCollection = ("image", "label"), allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the files of an item by what they hold."""
        item = dict(data)
        affine = torch.tensor(item["affine"])
        for key in self.key_iterator(item):
            planes = _with_channels(np.load(item[key], mmap_mode="r"))  # (C, D, X, Y)
            volume = torch.from_numpy(np.ascontiguousarray(np.moveaxis(planes, 1, -1)))
            item[key] = MetaTensor(volume, affine=affine, meta={"filename_or_obj": data[key]})
        return item


class NormalizeByVolumed(MapTransform):
    """Mean 0 and deviation 1 for every channel's non-zero voxels, measured over the whole source volume.

    A slice gets the values it has within its volume. The same as MONAI's `NormalizeIntensity(nonzero=True,
    channel_wise=True)` of the whole volume; zeros stay zero.

    Args:
        keys: of images (C, *spatial) that `LoadSliced` or `LoadVolumed` has read.
    """

    def __init__(self, keys: KeysCollection = "image") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalizes the images of an item."""
        item: dict[Hashable, Any] = dict(data)
        measured = torch.tensor(item["intensity"], dtype=torch.float32)
        for key in self.key_iterator(item):
            mean, deviation = (column.reshape([-1] + [1] * (item[key].dim() - 1)) for column in measured.T)
            normalized = (item[key] - mean) / torch.where(deviation > 0, deviation, torch.ones_like(deviation))
            item[key] = torch.where(item[key] != 0, normalized, torch.zeros_like(normalized))
        return item


class ClassesToChannelsd(MapTransform):
    """Classes 0 to K of a label (1, *spatial) as float32 channels in {0, 1}.

    Args:
        keys: of the labels.
        num_classes: K, the datalist's `label_names`.
        exclusive: K + 1 channels with the background first (softmax), instead of K without it (sigmoid).
    """

    def __init__(self, keys: KeysCollection, num_classes: int, exclusive: bool) -> None:
        super().__init__(keys)
        self.num_classes = num_classes
        self.first = 0 if exclusive else 1

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the labels of an item by their channels."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = one_hot(item[key], self.num_classes + 1, dim=0)[self.first :]
        return item


def _read_cases(
    datalist_file: str | Path, dataset_dir: str | Path, section: str | Sequence[str]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The items of `load_volumes`, each with its geometry, whose file is read here and nowhere else."""
    check_leakage(read_datalist(datalist_file))
    cases = load_datalist(datalist_file, dataset_dir, section, check_leakage=False)
    bare = [case["id"] for case in cases if "slices" not in case]
    if bare:
        raise ValueError(f"{datalist_file}: case {bare[0]} has no 'slices'; expected volumes: run `hidiff prepare`")
    known = [{key: value for key, value in case.items() if value is not None} for case in cases]
    geometries = [read_geometry(case) for case in known]
    return [({**case, **_from_geometry(geometry)}, geometry) for case, geometry in zip(known, geometries, strict=True)]


def _from_geometry(geometry: dict[str, Any]) -> dict[str, Any]:
    return {
        "intensity": geometry["intensity"],
        "affine": ras_affine(geometry),
        "acquired": "axes" in geometry,
    }


def _with_channels(stack: np.ndarray) -> np.ndarray:
    """(D, C, X, Y) images as float32, (D, X, Y) labels as they are, both with channels first: (C, D, X, Y)."""
    if stack.ndim == 3:
        return np.array(stack)[None]
    return np.moveaxis(stack.astype(np.float32), 1, 0)
