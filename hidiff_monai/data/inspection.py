"""What a data set is like, as far as a training has to know: sizes, intensities, and how large its objects are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects
from tqdm import tqdm

from hidiff_monai.io.images import read_size

from .datalist import load_datalist, read_datalist
from .labels import label_transform, source_label_rule
from .leakage import SECTIONS
from .slices import load_volumes, read_geometry
from .validate import read_readable

MAX_CASES = 60  # of which pixels are looked at
MAX_PLANES = 12  # of a volume, of which objects are measured
MAX_VALUES = 20_000  # of a case's foreground
PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
AIR_HU = -500  # only air, in CT, lies below


@dataclass(frozen=True)
class ClassFindings:
    """A class in the training section.

    Attributes:
        name: its name.
        presence: share of the cases that hold it.
        share: of all pixels; of volumes, in slices that hold any class.
        extent_px: median over pictures (slices) with it of the square root of its area.
        width_px: median of its mean width, 4 times the mean distance to its border: of a stripe, how wide it is; of a
            disc, two thirds of its diameter.
    """

    name: str
    presence: float
    share: float
    extent_px: float
    width_px: float


@dataclass(frozen=True)
class Findings:
    """A data set as `inspect_dataset` found it; pixels and classes are those of the training section.

    Attributes:
        name: the datalist's.
        is_volume: prepared volumes, not pictures.
        modality: "CT", "MR or other" or "photograph".
        cases: in each section.
        num_patients: in all sections.
        num_planes: slices, or pictures, of the training section.
        sizes: smallest and largest along each axis: (X, Y, D), or (H, W).
        spacing: smallest and largest along each axis in mm; None for pictures, or where it is unknown.
        channels: of the files.
        channel_names: of several channels, as `hidiff datalist` found them.
        classes: without the background.
        percentiles: of the values in the foreground, at `PERCENTILES`, for each channel.
        num_examined: cases whose pixels were looked at.
        acquired: volumes whose planes were kept as they were acquired, see `cut_axes`.
        label_rule: "label_values" or "label_threshold": what the values of the label files mean.
    """

    name: str
    is_volume: bool
    modality: str
    cases: dict[str, int]
    num_patients: int
    num_planes: int
    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    spacing: tuple[tuple[float, ...], tuple[float, ...]] | None
    channels: int
    channel_names: list[str]
    classes: list[ClassFindings]
    percentiles: list[list[float]]
    num_examined: int
    acquired: bool = False
    label_rule: dict[str, Any] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str]]:
        """What was found, in words: for a table."""
        unit = "slices" if self.is_volume else "pictures"
        rows = [
            ("data", f"{'volumes' if self.is_volume else 'pictures'}, {self.modality}, {self.channels} channel(s)"),
            ("cases", ", ".join(f"{number} {name}" for name, number in self.cases.items())),
            ("patients", str(self.num_patients)),
            (f"training {unit}", str(self.num_planes)),
            ("size, " + ("X × Y × D" if self.is_volume else "H × W"), _describe_range(*self.sizes)),
        ]
        if self.acquired:
            rows.append(("planes", "as they were acquired, not axial"))
        if self.spacing:
            rows.append(("spacing, mm", _describe_range(*self.spacing)))
        percentiles = ", ".join(f"{percentile:g}" for percentile in PERCENTILES)
        for channel, values in enumerate(self.percentiles):
            listed = ", ".join(f"{value:.4g}" for value in values)
            rows.append((f"foreground, channel {channel}", f"{listed} (percentiles {percentiles})"))
        for found in self.classes:
            share = f"{100 * found.share:.2g} % of the pixels of {unit} with objects"
            size = f"typically {found.extent_px:.0f} px large, {found.width_px:.0f} px wide"
            rows.append((found.name, f"in {found.presence:.0%} of the cases, {share}, {size}"))
        return rows


@dataclass(frozen=True)
class _Case:
    """Pixels of a case: image (P, C, ...), classes (P, ...) of its P planes."""

    image: np.ndarray
    classes: np.ndarray


def inspect_dataset(datalist_file: str | Path, dataset_dir: str | Path) -> Findings:
    """Looks at a data set: at the sizes of all its cases, and at pixels of at most 60 of the training section.

    Args:
        datalist_file: the datalist.
        dataset_dir: the folder its paths are relative to.

    Raises:
        ValueError: if the datalist is malformed, leaks, or files are missing, or no class is in the training section.
    """
    datalist = read_datalist(datalist_file)
    cases = {name: len(datalist.get(name, [])) for name in SECTIONS}
    listed = [case for name in SECTIONS for case in datalist.get(name, [])]
    is_volume = all("slices" in case for case in listed)
    items = {name: _load(datalist_file, dataset_dir, name, is_volume) for name in SECTIONS if cases[name]}
    if "training" not in items:
        raise ValueError(f"{datalist_file}: no case trains; expected some: deal it again, with smaller shares")
    names = [str(name) for name in datalist.get("label_names", ["foreground"])]
    sizes = [_size(item, is_volume) for section in items.values() for item in section]
    known = [item["spacing"] for section in items.values() for item in section if item.get("spacing")]
    chosen = _evenly(items["training"], MAX_CASES)
    measured, percentiles, is_ct = _measure(_read(chosen, datalist_file, is_volume), len(chosen), names)
    modality = "photograph" if not is_volume else "CT" if is_ct and datalist["channels"] == 1 else "MR or other"
    return Findings(
        name=str(datalist.get("name", Path(datalist_file).stem)),
        is_volume=is_volume,
        modality=modality,
        cases=cases,
        num_patients=len({case.get("patient", case["id"]) for case in listed}),
        num_planes=sum(item.get("slices", 1) for item in items["training"]),
        sizes=_extremes(sizes),
        spacing=_extremes(known) if known else None,
        channels=datalist["channels"],
        channel_names=datalist.get("channel_names", []),
        classes=measured,
        percentiles=percentiles,
        num_examined=len(chosen),
        acquired=bool(datalist.get("acquired")),
        label_rule=source_label_rule(datalist),
    )


def _load(datalist_file: str | Path, dataset_dir: str | Path, section: str, is_volume: bool) -> list[dict[str, Any]]:
    if is_volume:
        return load_volumes(datalist_file, dataset_dir, section)
    return load_datalist(datalist_file, dataset_dir, section, check_leakage=False)  # content: `hidiff datalist` did


def _size(item: dict[str, Any], is_volume: bool) -> tuple[int, ...]:
    if is_volume:
        depth, _, *plane = np.load(item["image"], mmap_mode="r").shape
        return (*plane, depth)
    return read_size(item["image"])


def _read(items: list[dict[str, Any]], datalist_file: str | Path, is_volume: bool) -> Iterator[_Case]:
    to_classes = None if is_volume else label_transform(datalist_file)
    for item in tqdm(items, desc="Looking at the data", unit="case"):
        if to_classes is None:
            foreground = _evenly(read_geometry(item)["foreground"], MAX_PLANES)
            image, label = (np.load(item[key], mmap_mode="r")[foreground] for key in ("image", "label"))
            yield _Case(image, label)
        else:
            image, label = (read_readable(item[key]).array for key in ("image", "label"))
            grey = torch.from_numpy(np.ascontiguousarray(label[..., 0], np.float32))[None]
            classes = np.asarray(to_classes({"label": grey})["label"]).astype(np.uint8)
            yield _Case(np.moveaxis(image, -1, 0)[None], classes)


def _measure(
    cases: Iterator[_Case], number: int, names: list[str]
) -> tuple[list[ClassFindings], list[list[float]], bool]:
    """Classes, percentiles of the foreground a channel, and whether half of the cases or more look like CT."""
    objects: dict[int, list[tuple[float, float]]] = defaultdict(list)
    presence, shares = (np.zeros(len(names) + 1) for _ in range(2))
    values, num_ct = [], 0
    for case in cases:
        counts = np.bincount(case.classes.ravel(), minlength=len(names) + 1)
        presence += counts > 0
        shares += counts / max(counts.sum(), 1) / number
        for plane in case.classes:
            for label in np.unique(plane[plane > 0]):
                objects[int(label)].append(_extent_and_width(plane == label))
        inside = np.moveaxis(case.image, 1, 0)[:, case.classes > 0]
        values.append(inside[:, :: max(1, inside.shape[1] // MAX_VALUES)])
        num_ct += bool(case.image.size and case.image.min() < AIR_HU)
    if not objects:
        raise ValueError("no label of the training section holds a class; expected objects: check the labels")
    medians = {label: np.median(found, axis=0) for label, found in objects.items()}
    absent = np.zeros(2)
    classes = [
        ClassFindings(name, presence[i] / number, shares[i], *(float(size) for size in medians.get(i, absent)))
        for i, name in enumerate(names, start=1)
    ]
    percentiles = np.percentile(np.concatenate(values, axis=1), PERCENTILES, axis=1).T
    return classes, percentiles.tolist(), 2 * num_ct >= number


def _extent_and_width(mask: np.ndarray) -> tuple[float, float]:
    """Pixels: the square root of the area, and 4 times the mean distance to the border: of a stripe, its width."""
    (box,) = find_objects(mask.astype(np.uint8))
    distances = distance_transform_edt(np.pad(mask[box], 1))
    to_border = distances.sum() / mask.sum() - 0.5  # SciPy's goes on to the centre of the nearest pixel outside
    return float(np.sqrt(mask.sum())), float(4 * to_border)


def _evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[position] for position in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _extremes(rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    columns = list(zip(*rows, strict=True))
    return tuple(min(column) for column in columns), tuple(max(column) for column in columns)


def _describe_range(smallest: Sequence[float], largest: Sequence[float]) -> str:
    pairs = zip(smallest, largest, strict=True)
    return " × ".join(f"{low:.4g}" if low == high else f"{low:.4g}–{high:.4g}" for low, high in pairs)
