"""A data set that nobody here has seen: patterns say which files are images and labels, all else is as elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from tqdm import tqdm

from hidiff_monai.io import write_atomically
from hidiff_monai.io.files import IMAGE_SUFFIXES, NIFTI_SUFFIXES
from hidiff_monai.io.geometry import cut_axes, is_invertible, slice_axis

from ..datalist import read_datalist, require_folder
from ..labels import grey_of, list_values
from ..reading import UNREADABLE, read_pixels
from .cases import RawCase, VolumeSet
from .folder_files import CaseFiles, find_case_files
from .images import Case, datalist_text, write_image_datalist
from .problems import require_none
from .splits import draw_order
from .volumes import prepare_volumes

MAX_VALUES = 32  # more are grey values, not classes
THICK = 1.5  # times as large as its other edges, and a voxel is part of a plane
UNSTATED = "not stated: whoever gave you the data knows"


@dataclass(frozen=True)
class Layout:
    """Where a case's files lie.

    Attributes:
        images: patterns of paths below the source, with `{id}`, `{patient}` and `*`; one a channel.
        labels: the pattern of the labels, with the same placeholders.
        patient: a regular expression whose one group is the patient in an id, where no pattern has `{patient}`; None
            takes every id as a patient.
    """

    images: tuple[str, ...]
    labels: str
    patient: str | None = None


@dataclass(frozen=True)
class Classes:
    """What the labels mean; whatever is left out is found by reading all of them.

    Attributes:
        names: of the classes, without the background.
        label_values: value in the files to class, 0 the background.
        label_threshold: values above it are the one class, for masks that JPEG has blurred.
    """

    names: tuple[str, ...] | None = None
    label_values: dict[int, int] | None = None
    label_threshold: int | None = None


@dataclass(frozen=True)
class Split:
    """Shares in [0, 1] of the patients that are held out, and the seed of the order they are drawn in."""

    validation: float = 0.15
    test: float = 0.2
    seed: int = 0


def prepare_folder(
    source: str | Path,
    output: str | Path,
    layout: Layout,
    classes: Classes | None = None,
    split: Split | None = None,
    name: str | None = None,
) -> tuple[Path, Path]:
    """Makes a datalist of a folder; NIfTI volumes are cut into slices, pictures stay where they are.

    Args:
        source: the folder; nothing is written there.
        output: the folder for the datalist, and for slices.
        layout: where the files lie.
        classes: what the labels mean.
        split: how much is held out; all cases of a patient are in one section.
        name: of the data set; None takes the source's.

    Returns:
        dataset_dir (the folder that the datalist's paths are relative to) and the datalist.

    Raises:
        ValueError: if a pattern matches nothing, the labels are no masks, or any file is missing or broken: the message
            names all of them.
    """
    root, output = require_folder(source, "source"), Path(output).expanduser().absolute()
    if output.resolve() == root.resolve():
        raise ValueError(f"output {output}: is the source; expected another folder: nothing is written there")
    files, problems = find_case_files(root, layout.images, layout.labels, layout.patient)
    is_volume = _is_volume(files)
    if not is_volume and len(layout.images) > 1:
        raise ValueError(f"images: {len(layout.images)} pictures a case; expected one: several channels are for NIfTI")
    label_rule, names = _describe_labels(files, classes or Classes(), is_volume)
    sections = draw_sections([case.patient for case in files], split or Split())
    head = {"name": name or root.name, **label_rule, "label_names": names}
    if is_volume:
        return output, _write_volumes(head, files, sections, output, problems, layout.images)
    require_none(problems, output)
    return root, _write_pictures(head, files, sections, root, output)


def draw_sections(patients: Sequence[str], split: Split) -> dict[str, str]:
    """Section of each patient: at least one in each that has a share, the others train.

    Raises:
        ValueError: if shares are out of range, or there are fewer patients than sections.
    """
    shares = {"test": split.test, "validation": split.validation}
    are_numbers = all(isinstance(share, (int, float)) and not isinstance(share, bool) for share in shares.values())
    if not are_numbers or min(shares.values()) < 0 or sum(shares.values()) > 1:
        raise ValueError(f"shares {shares}; expected each in [0, 1], 1 at most in sum: correct --validation, --test")
    order = draw_order(set(patients), split.seed)
    numbers = {name: max(1, round(share * len(order))) if share else 0 for name, share in shares.items()}
    held_out = sum(numbers.values())
    if held_out > len(order) or (held_out == len(order) and sum(shares.values()) < 1):
        raise ValueError(
            f"{len(order)} patient(s) ({', '.join(order[:5])}) for shares {shares}; expected one or more in every "
            "section: add data, or set --test 0; where each id is a patient of its own, leave --patient out"
        )
    places = ["test"] * numbers["test"] + ["validation"] * numbers["validation"]
    places += ["training"] * (len(order) - held_out)
    return dict(zip(order, places, strict=True))


def find_label_values(labels: Iterable[Path]) -> dict[int, int]:
    """Reads all labels: the values they hold, in rising order, to classes; unreadable ones are left to the check.

    Raises:
        ValueError: if the values are no classes: too many, none but 0, without a 0, negative, or not whole.
    """
    values: set[float] = set()
    for file in tqdm(list(labels), desc="Reading labels", unit="label"):
        try:
            pixels = read_pixels(file)
        except UNREADABLE:
            continue
        array = grey_of(pixels, {})
        if array is None and pixels.affine is not None:
            continue
        if array is None:
            raise ValueError(
                f"{file}: {pixels.channels} channels; expected one grey value a class: convert coloured labels; for a "
                "JPEG mask of two values, set --label_threshold 127"
            )
        for plane in np.moveaxis(array, -1, 0) if array.ndim == 3 else [array]:
            values |= set(np.unique(plane[np.isfinite(plane)]).tolist())
        _require_classes(file, np.array(sorted(values)))
    found = np.array(sorted(values))
    if found.size and (found[0] != 0 or found.size == 1):
        raise ValueError(
            f"the labels hold {list_values(found)}; expected 0 for the background and one value or more for classes: "
            'say which is which with --label_values, for example --label_values "{1:0,2:1}"'
        )
    return {int(value): number for number, value in enumerate(found)}


def _require_classes(file: Path, values: np.ndarray) -> None:
    is_blurred = file.suffix.lower() in (".jpg", ".jpeg") and values.size > 2
    if values.size > MAX_VALUES or is_blurred:
        raise ValueError(
            f"{file}: labels hold {values.size} values so far, {list_values(values)}; expected the few of a mask: "
            "correct --labels, or, where JPEG has blurred a mask of two values, set --label_threshold 127"
        )
    if not np.array_equal(values, np.rint(values)) or (values.size and values[0] < 0):
        raise ValueError(
            f"{file}: labels hold {list_values(values)}; expected whole numbers from 0 on: correct --labels, export "
            "the label again, or say with --label_values what is a class"
        )


def _is_volume(files: Sequence[CaseFiles]) -> bool:
    names = [file.name.lower() for case in files for file in (*case.images, case.label)]
    if all(name.endswith(NIFTI_SUFFIXES) for name in names):
        return True
    strange = [name for name in names if not name.endswith(IMAGE_SUFFIXES)]
    if strange:
        raise ValueError(
            f"images and labels hold {strange[0]}; expected only NIfTI ({', '.join(NIFTI_SUFFIXES)}), or only "
            f"pictures ({', '.join(IMAGE_SUFFIXES)}): correct the patterns, or export the files as one of these"
        )
    return False


def _describe_labels(files: Sequence[CaseFiles], classes: Classes, is_volume: bool) -> tuple[dict[str, Any], list[str]]:
    """The datalist's "label_values" or "label_threshold", and the names of the classes; both are printed."""
    if classes.label_threshold is not None:
        if is_volume or classes.label_values is not None:
            raise ValueError("label_threshold is for pictures, without label_values: set --label_values alone")
        names = _name_classes(classes.names, 1, f"values above {classes.label_threshold}")
        print(f"label values: above {classes.label_threshold} = 1 ({names[0]})")
        return {"label_threshold": classes.label_threshold}, names
    values = classes.label_values or find_label_values(case.label for case in files)
    if not values:
        raise ValueError(f"{files[0].label}: no label can be read; expected masks: correct --labels")
    numbers = sorted(set(values.values()))
    if numbers != list(range(len(numbers))) or len(numbers) < 2:
        raise ValueError(f"label_values {values}; expected classes 0, 1 and on without a gap: correct --label_values")
    names = _name_classes(classes.names, len(numbers) - 1, f"label values {values}")
    named = ["background", *names]
    print("label values:", ", ".join(f"{value} = {number} ({named[number]})" for value, number in values.items()))
    return {"label_values": values}, names


def _name_classes(names: tuple[str, ...] | None, number: int, found: str) -> list[str]:
    if names is None:
        return ["foreground"] if number == 1 else [f"class {i + 1}" for i in range(number)]
    if len(names) != number or len(set(names)) != number:
        raise ValueError(f"names {list(names)} for {found}; expected {number}, all different: correct --names")
    return list(names)


def _write_volumes(
    head: dict[str, Any],
    files: Sequence[CaseFiles],
    sections: dict[str, str],
    output: Path,
    problems: list[Any],
    patterns: Sequence[str],
) -> Path:
    described = {"description": _describe(files), "reference": UNSTATED, "licence": UNSTATED}
    acquired = has_other_planes(case.images[0] for case in files)
    if acquired:
        print("planes: most volumes were acquired in planes that are not axial; they are cut as they were acquired")
    volume_set = VolumeSet(**{**head, **described}, channels=len(patterns), acquired=acquired)
    cases = [RawCase(case.id, case.patient, sections[case.patient], case.images, case.label) for case in files]
    datalist = prepare_volumes(volume_set, cases, output, problems)
    if len(patterns) > 1:
        content = {**read_datalist(datalist), "channel_names": _channel_names(patterns)}
        with write_atomically(datalist) as temporary:
            temporary.write_text(datalist_text(content), encoding="utf-8")
    return datalist


def has_other_planes(volumes: Iterable[Path]) -> bool:
    """Whether most volumes consist of planes that are not axial: thick along their third axis, which is another one.

    Across such planes, as of a knee or a spine, a network would see strips of a few thick voxels.
    """
    votes = []
    for file in volumes:
        try:
            affine = np.asarray(nibabel.load(file).affine)  # type: ignore[attr-defined]
        except UNREADABLE:
            continue  # the check names it
        if is_invertible(affine):
            sizes = nibabel.affines.voxel_sizes(affine)
            is_thick = sizes[2] >= THICK * max(sizes[:2])
            votes.append(is_thick and slice_axis(cut_axes(affine)) != 2)
    return 2 * sum(votes) > len(votes)


def _write_pictures(
    head: dict[str, Any], files: Sequence[CaseFiles], sections: dict[str, str], root: Path, output: Path
) -> Path:
    rule = {key: head[key] for key in head if key.startswith("label_")}
    if "label_values" in rule:
        rule["label_values"] = {str(value): number for value, number in rule["label_values"].items()}
    described = {"description": _describe(files), "reference": UNSTATED, "licence": UNSTATED}
    listed: dict[str, list[Case]] = {"training": [], "validation": [], "test": []}
    for case in files:
        paths = {"image": case.images[0], "label": case.label}
        relative = {key: path.relative_to(root).as_posix() for key, path in paths.items()}
        listed[sections[case.patient]].append({"id": case.id, "patient": case.patient, **relative})
    channels = {"channels": _count_channels(case.images[0] for case in files)}
    return write_image_datalist({"name": head["name"], **described, **channels, **rule}, listed, root, output)


def _describe(files: Sequence[CaseFiles]) -> str:
    patients = len({case.patient for case in files})
    return f"{len(files)} cases of {patients} patients, listed by `hidiff datalist`; patients were dealt by a seed."


def _count_channels(images: Iterable[Path]) -> int:
    """Of the first picture that can be read; the check names those that differ."""
    for file in images:
        try:
            return read_pixels(file).channels
        except UNREADABLE:
            continue
    raise ValueError("no image can be read; expected pictures: correct --images")


def _channel_names(patterns: Sequence[str]) -> list[str]:
    """What tells the patterns apart, from their end: "t1" of "a/{id}_t1.nii.gz", "T1" of "{id}/T1/image.nii.gz"."""
    parts = [_fixed_parts(pattern) for pattern in patterns]
    for place in range(1, min(map(len, parts)) + 1):
        names = [of_pattern[-place] for of_pattern in parts]
        if len(set(names)) == len(names):
            return names
    return [str(number) for number in range(1, len(patterns) + 1)]


def _fixed_parts(pattern: str) -> list[str]:
    parts = [part for part in re.split(r"[/{}*]", re.sub(r"\{\w+\}", "*", pattern)) if part not in NIFTI_SUFFIXES]
    names = [part.removesuffix(".gz").removesuffix(".nii").strip("_-. ") for part in parts]
    return [name for name in names if name]
