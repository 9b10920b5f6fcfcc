"""The check before training: every file of a data set, one problem a finding, each with its mend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hidiff_monai.io.images import read_orientation

from .datalist import FILE_KEYS, absolute_paths, read_datalist, require_folder
from .labels import check_label, list_values, require_label_rule
from .leakage import SECTIONS, check_leakage
from .reading import UNREADABLE, Pixels, count_not_finite, read_pixels, read_stack
from .slices import read_geometry

MAX_LISTED = 20


@dataclass(frozen=True)
class Problem:
    """One finding: what a file holds, what was expected of it, and how to mend it."""

    case_id: str
    key: str
    file: str
    found: str
    expected: str
    mend: str

    def __str__(self) -> str:
        text = f"{self.file}: {self.found}; expected {self.expected}: {self.mend} (case {self.case_id}, {self.key})"
        return " ".join(text.split())


def check_dataset(
    path: str | Path, dataset_dir: str | Path, sections: list[str] | None = None, progress: bool = True
) -> list[Problem]:
    """Reads every image, label and region of a data set and reports what would break or mislead a training.

    A file must be readable and finite, an image must have the datalist's "channels", the other files of its case must
    lie on its grid, and regions are binary and not empty. Labels hold only the grey values in "label_values", or lie
    clearly on either side of "label_threshold". An empty label is legal. A second observer's label is read and its
    grid compared, no more.

    Args:
        path: the datalist JSON.
        dataset_dir: the folder its paths are relative to.
        sections: which sections to check; None means all that are there.
        progress: shows a progress bar.

    Raises:
        ValueError: if there is nothing to check (no such folder, section or datalist), or a case is in two sections.
    """
    datalist = read_datalist(path)
    check_leakage(datalist)
    root = require_folder(dataset_dir)
    chosen = sections if sections is not None else [name for name in SECTIONS if name in datalist]
    unknown = [name for name in chosen if name not in SECTIONS or name not in datalist]
    if unknown:
        raise ValueError(f"{path}: no sections {unknown}; expected some of {[s for s in SECTIONS if s in datalist]}")
    if "channels" not in datalist:
        raise ValueError(f"{path}: 'channels' missing; expected a number: add it as in data_lists/drive.json")
    require_label_rule(path, datalist)
    cases = [absolute_paths(case, root) for name in chosen for case in datalist[name]]
    if cases and not any(Path(case["image"]).is_file() for case in cases):
        first = next(case["image"] for name in chosen for case in datalist[name])
        raise ValueError(
            f"{root}: none of the {len(cases)} images is there; expected {first} and so on: point dataset_dir at the "
            "folder that holds them"
        )
    bar = tqdm(cases, desc="Checking data", unit="case", disable=not progress)
    labelled = any("label" in case for case in cases)
    return [problem for case in bar for problem in _check_case(case, datalist, labelled)]


def require_valid(path: str | Path, dataset_dir: str | Path, sections: list[str] | None = None) -> None:
    """Raises one ValueError that lists the problems of a data set (the first 20, then a count); silent if none."""
    is_first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes one shows its progress
    problems = check_dataset(path, dataset_dir, sections, progress=is_first)
    if problems:
        lines = [f"  {problem}" for problem in problems[:MAX_LISTED]]
        if len(problems) > MAX_LISTED:
            lines.append(f"  ... and {len(problems) - MAX_LISTED} more")
        raise ValueError("\n".join([f"{dataset_dir}: {len(problems)} problem(s) found; expected none:", *lines]))


def _check_case(case: dict[str, Any], datalist: dict[str, Any], labelled: bool) -> Iterator[Problem]:
    image: Pixels | None = None
    read = read_stack if "slices" in case else read_pixels
    if labelled and "label" not in case:
        mend = "add its path, or take the case out of the datalist"
        found = "no label is listed for it, though others have one"
        yield Problem(str(case["id"]), "label", case["image"], found, "one label an image", mend)
    for key in FILE_KEYS:
        if key not in case:
            continue
        try:
            pixels = read(case[key])
        except UNREADABLE as error:
            yield _problem(case, key, *describe_unreadable(case[key], error))
            continue
        if key == "image":
            image = pixels
            if "slices" in case:
                yield from _check_prepared(case, depth=pixels.spatial_shape[0])
        elif image is not None and "slices" not in case:
            yield from _check_orientation(case, key)
        for finding in find_problems(key, pixels, image, datalist):
            yield _problem(case, key, *finding)


def _check_prepared(case: dict[str, Any], depth: int) -> Iterator[Problem]:
    """What loading slices rests on beside the arrays: the file of the geometry, and the datalist's number of slices."""
    mend = "run `hidiff prepare` again"
    try:
        read_geometry(case)
    except ValueError as error:
        yield _problem(case, "image", str(error), "the geometry that preparation wrote beside it", mend)
    if depth != case["slices"]:
        yield _problem(case, "image", f"{depth} slices", f"the datalist's {case['slices']}", mend)


def _check_orientation(case: dict[str, Any], key: str) -> Iterator[Problem]:
    """A camera's note on how to turn its picture, of which what was drawn on it knows nothing: which way up was it?"""
    turned, own = (read_orientation(case[name]) for name in ("image", key))
    if turned != own:
        mend = "turn the pixels of both as they belong together, and save them without EXIF"
        yield _problem(case, key, f"EXIF orientation {own}, its image has {turned}", "the same", mend)


def _problem(case: dict[str, Any], key: str, found: str, expected: str, mend: str) -> Problem:
    return Problem(str(case["id"]), key, case[key], found, expected, mend)


Finding = tuple[str, str, str]  # found, expected, mend


def describe_unreadable(file: str | Path, error: BaseException) -> Finding:
    """What `read_pixels` raised, as found, expected and mend."""
    if not Path(file).is_file():
        return "no such file", "the file the datalist names", "restore it, or correct the path or dataset_dir"
    found = f"not readable ({type(error).__name__}: {error})"
    return found, "a complete image file", "download or export it again, it is truncated or not an image"


def unreadable(file: str | Path, error: BaseException) -> ValueError:
    """What to raise in the place of what `read_pixels` raised."""
    found, expected, mend = describe_unreadable(file, error)
    return ValueError(f"{file}: {found}; expected {expected}: {mend}")


def read_readable(file: str | Path) -> Pixels:
    """`read_pixels` for a file that is known to be there.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return read_pixels(file)
    except UNREADABLE as error:
        raise unreadable(file, error) from error


def find_problems(key: str, pixels: Pixels, image: Pixels | None, datalist: dict[str, Any]) -> Iterator[Finding]:
    """Found, expected and mend of whatever is wrong with one file that could be read.

    Args:
        key: what the file is to its case: "image", "label", "region" or "second_label".
        pixels: its content.
        image: the image on whose grid it must lie, or None.
        datalist: "channels" and "label_values" are looked up here.
    """
    if image is not None and key != "image":
        yield from _compare_grids(pixels, image)
    if bad := count_not_finite(pixels.array):
        found = f"{bad} pixels are NaN, infinite or beyond float32"
        yield found, "finite values", "replace them, or export the file again"
    elif key == "label":
        yield from check_label(pixels, datalist)
    elif key == "region":
        yield from _check_region(pixels)
    if key == "image" and pixels.channels != datalist["channels"]:
        mend = "convert the image (drop alpha, or make grey from colour), or set 'channels' in the datalist"
        if pixels.affine is not None:
            mend = "split it into one 3-D file a channel, and give --images a pattern each"
        yield f"{pixels.channels} channel(s)", f"{datalist['channels']}", mend


def _compare_grids(pixels: Pixels, image: Pixels) -> Iterator[Finding]:
    if pixels.spatial_shape != image.spatial_shape:
        expected = f"the image's {_describe_shape(image)}"
        yield _describe_shape(pixels), expected, "pair the right files, or resample onto the image's grid"
        return
    if pixels.affine is None or image.affine is None or np.allclose(pixels.affine, image.affine, atol=1e-3):
        return
    found = f"affine {pixels.affine[:3].round(3).tolist()}"
    expected = f"the image's {image.affine[:3].round(3).tolist()}"
    yield found, expected, "resample onto the image's grid, or copy the image's header if the voxels agree"


def _describe_shape(pixels: Pixels) -> str:
    if len(pixels.spatial_shape) == 2:
        return "height {}, width {}".format(*pixels.spatial_shape)
    return f"grid {pixels.spatial_shape}"


def _check_region(pixels: Pixels) -> Iterator[Finding]:
    values = np.unique(pixels.array)
    expected = "a single-channel mask of {0, 255} or {0, 1}"
    if pixels.channels != 1:
        yield f"{pixels.channels} channels", expected, "save the region as a single-channel image"
    elif not (set(values.tolist()) <= {0, 255} or set(values.tolist()) <= {0, 1}):
        yield f"grey values {list_values(values)}", expected, "threshold the region and save it as PNG, GIF or NIfTI"
    elif not values.any():
        yield "the region is empty", expected, "draw the region, or remove 'region' from the case in the datalist"
