"""Overlap of two binary masks: counts first, every score from the counts.

What an empty mask is worth (P the prediction, G the label, both inside the region):

| G     | P     | Dice | IoU | recall | accuracy |
|-------|-------|------|-----|--------|----------|
| empty | empty | 1    | 1   | 1      | 1        |
| empty | some  | 0    | 0   | NaN    | as usual |
| some  | empty | 0    | 0   | 0      | as usual |

Nothing there and nothing found is a correct answer. Recall of an absent structure says nothing about a false alarm
(Dice does), so it is undefined: NaN, counted by `summarise`, never scored.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from monai.config import NdarrayOrTensor
from monai.utils import convert_to_numpy


class ConfusionCounts(NamedTuple):
    """Pixels (voxels) by outcome.

    Attributes:
        tp: structure, found.
        fp: background, taken for structure.
        fn: structure, missed.
        tn: background, left alone.
    """

    tp: int
    fp: int
    fn: int
    tn: int


def binary_array(mask: NdarrayOrTensor, name: str) -> np.ndarray:
    """The mask as a NumPy bool array.

    Args:
        mask: any shape, bool or numbers in {0, 1}.
        name: what to call it in the error message.

    Raises:
        ValueError: it holds anything but 0 and 1.
    """
    array = np.asarray(convert_to_numpy(mask))
    if array.dtype == np.bool_:
        return array
    is_one = array == 1
    is_neither = ~(is_one | (array == 0))
    if is_neither.any():
        raise ValueError(f"{name} holds {array[is_neither][0]}; expected only 0 and 1: threshold it or map its labels")
    return is_one


def paired_masks(
    prediction: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, label and region as bool arrays of one shape; the region is everything where none is given.

    Args:
        prediction: P, (H, W) or (D, H, W), in {0, 1}; one structure, no channel axis.
        label: G, same shape, in {0, 1}.
        region: same shape, true where pixels count (a field of view), or None for all of them.

    Raises:
        ValueError: shapes differ, another number of axes, values outside {0, 1}, or a region without a pixel.
    """
    found, truth = binary_array(prediction, "prediction"), binary_array(label, "label")
    inside = np.ones(truth.shape, dtype=bool) if region is None else binary_array(region, "region")
    if not found.shape == truth.shape == inside.shape:
        raise ValueError(
            f"prediction {found.shape}, label {truth.shape} and region {inside.shape} differ in shape; "
            "expected one shape: resample to the label's grid first"
        )
    if truth.ndim not in (2, 3):
        raise ValueError(f"masks have shape {truth.shape}; expected (H, W) or (D, H, W): score one case, one target")
    if not inside.any():
        raise ValueError("region holds no pixel; expected at least one: check the region file or leave it out")
    return found, truth, inside


def confusion_counts(
    prediction: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None = None
) -> ConfusionCounts:
    """Count true and false positives and negatives of one case inside the region (arguments as `paired_masks`)."""
    found, truth, inside = paired_masks(prediction, label, region)
    found, truth = found[inside], truth[inside]
    tp = int(np.count_nonzero(found & truth))
    fp = int(np.count_nonzero(found)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return ConfusionCounts(tp, fp, fn, truth.size - tp - fp - fn)


def dice(counts: ConfusionCounts) -> float:
    """Dice = 2 TP / (2 TP + FP + FN), in [0, 1]; 1 when both masks are empty, 0 when one is."""
    size = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / size if size else 1.0


def iou(counts: ConfusionCounts) -> float:
    """IoU = TP / (TP + FP + FN), in [0, 1]; 1 when both masks are empty, 0 when one is."""
    union = counts.tp + counts.fp + counts.fn
    return counts.tp / union if union else 1.0


def recall(counts: ConfusionCounts) -> float:
    """Recall = TP / (TP + FN), in [0, 1]; 1 when both masks are empty, NaN when only the label is."""
    positives = counts.tp + counts.fn
    if positives:
        return counts.tp / positives
    return math.nan if counts.fp else 1.0


def accuracy(counts: ConfusionCounts) -> float:
    """Accuracy = (TP + TN) / all pixels, in [0, 1]; an empty mask is no special case."""
    return (counts.tp + counts.tn) / sum(counts)
