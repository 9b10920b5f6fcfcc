"""From the grey values of a label file to classes: exact values, or one threshold where JPEG has blurred them.

A datalist says which with one of two keys: "label_values" (grey value in the file to class) or "label_threshold" (grey
values above it are class 1, all others class 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import AsDiscreted, MapLabelValued, MapTransform

from .datalist import read_datalist
from .leakage import SECTIONS
from .reading import Pixels

RULES = ("label_values", "label_threshold")
MAX_BETWEEN = 0.05  # share of a mask's pixels that are neither dark nor bright; compression leaves well below 1 %
MAX_TINT = 8  # how far JPEG moves the channels of a grey picture saved in colour apart


def label_transform(datalist_file: str | Path, keys: str = "label") -> MapTransform:
    """The transform that turns a label as loaded, (1, H, W) grey values, into classes as float32.

    Args:
        datalist_file: whose "label_values" or "label_threshold" is meant.
        keys: key of the label in an item; items without it pass unchanged.

    Raises:
        ValueError: if the datalist has neither or both.
    """
    datalist = read_datalist(datalist_file)
    require_label_rule(datalist_file, datalist)
    if "label_threshold" in datalist:
        # grey values are whole numbers, and AsDiscrete keeps what is equal to its threshold
        return AsDiscreted(keys, threshold=datalist["label_threshold"] + 0.5, allow_missing_keys=True)
    greys, classes = grey_levels(datalist_file)
    return MapLabelValued(keys, greys, classes, dtype="float32", allow_missing_keys=True)


def grey_levels(datalist_file: str | Path) -> tuple[list[float], list[float]]:
    """The datalist's "label_values": grey values as they stand in the files, and the classes they mean.

    Raises:
        ValueError: if the datalist has none.
    """
    values = read_datalist(datalist_file).get("label_values")
    if not values:
        raise ValueError(f"{datalist_file}: no 'label_values'; expected grey value to class: see data_lists/drive.json")
    return [float(grey) for grey in values], [float(number) for number in values.values()]


def source_label_rule(datalist: dict[str, Any]) -> dict[str, Any]:
    """The "label_values" or "label_threshold" of the files that a datalist was made from; of prepared volumes those of
    the raw labels, as far as the datalist tells them."""
    if "source_label_values" in datalist:
        return {"label_values": datalist["source_label_values"]}
    is_prepared = any("slices" in case for name in SECTIONS for case in datalist.get(name, []))
    return {} if is_prepared else {rule: datalist[rule] for rule in RULES if rule in datalist}


def require_label_rule(path: str | Path, datalist: dict[str, Any]) -> None:
    """Raises ValueError unless the datalist has "label_values" or a whole number as "label_threshold", not both."""
    given = [rule for rule in RULES if rule in datalist]
    if len(given) != 1:
        raise ValueError(
            f"{path}: has {given or 'neither'} of {list(RULES)}; expected one: set label_values as in "
            f"data_lists/drive.json, or label_threshold as in data_lists/kvasir_seg.json"
        )
    threshold = datalist.get("label_threshold", 0)
    if not isinstance(threshold, int) or isinstance(threshold, bool):
        raise ValueError(f"{path}: label_threshold is {threshold!r}; expected a whole number, for example 127")


def check_label(pixels: Pixels, datalist: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Found, expected and mend of what is wrong with a label's values; a grey picture saved in colour is fine."""
    grey = grey_of(pixels, datalist)
    if grey is None:
        found = f"{pixels.channels} channels"
        yield found, "1", "save the label as a single-channel image, one grey value a class"
    elif "label_threshold" in datalist:
        yield from _check_threshold(grey, datalist["label_threshold"])
    else:
        yield from _check_values(grey, datalist["label_values"])


def map_values(label: np.ndarray, label_values: Mapping[Any, int]) -> np.ndarray:
    """Values of a file to classes, uint8; the values are known to be among `label_values`."""
    classes = np.zeros(label.shape, np.uint8)
    for value, number in label_values.items():
        if number:
            classes[label == float(value)] = number
    return classes


def list_values(values: np.ndarray, limit: int = 5) -> str:
    """The first few of some grey values, as {0, 7, 255} and 3 more."""
    listed = ", ".join(f"{value:g}" for value in values[:limit])
    return f"{{{listed}}}" + (f" and {len(values) - limit} more" if len(values) > limit else "")


def grey_of(pixels: Pixels, rule: Mapping[str, Any]) -> np.ndarray | None:
    """The one value a pixel of a label, also of a grey picture saved in colour; None where it has several.

    Args:
        pixels: of the label.
        rule: with "label_threshold" JPEG's tint is let pass; exact values would become others when turned to grey.
    """
    tint = MAX_TINT if "label_threshold" in rule else 0
    array = pixels.array
    if pixels.channels == 1:
        return array[..., 0]
    is_grey = pixels.affine is None and pixels.channels == 3 and int(np.ptp(array, axis=-1).max()) <= tint
    return array[..., 0] if is_grey else None


def _check_values(grey: np.ndarray, label_values: dict[str, int]) -> Iterator[tuple[str, str, str]]:
    allowed = sorted(float(value) for value in label_values)
    strange = np.unique(grey[~np.isin(grey, allowed)])
    if strange.size:
        mend = "remap the label, or correct label_values; for a JPEG mask, set label_threshold instead"
        yield f"grey values {list_values(strange)}", f"only {list_values(np.array(allowed))}", mend


def _check_threshold(grey: np.ndarray, threshold: int) -> Iterator[tuple[str, str, str]]:
    """Dark is the lower half of what is not above the threshold, bright the upper half of what is (of 0 ... 255)."""
    brightest = grey.max()
    between = ((grey > threshold / 2) & (grey <= (threshold + 255) / 2)).mean()
    if 0 < brightest <= threshold:
        mend = "save the label with 0 and 255, or correct label_threshold: as it is, the whole label reads as empty"
        yield f"no grey value above {threshold}, though up to {brightest:g}", "0 everywhere, or some above", mend
    elif between > MAX_BETWEEN:
        found = f"{between:.0%} of the pixels neither dark nor bright"
        yield found, f"at most {MAX_BETWEEN:.0%}", "this may be no mask: pair the right files, or threshold it yourself"
