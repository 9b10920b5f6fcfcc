"""One case's scores, and the summary of many: per case first, then the mean, never per batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import NdarrayOrTensor

from .overlap import ConfusionCounts, accuracy, confusion_counts, dice, iou, recall
from .surface import hd95

OVERLAP_SCORES = {"dice": dice, "iou": iou, "recall": recall, "accuracy": accuracy}
METRICS = ("dice", "iou", "hd95", "recall", "accuracy")
HD95_UNITS = {"hd95": "voxels", "hd95_mm": "mm"}
ALL_METRICS = (*METRICS, "hd95_mm")  # the last only where the size of a voxel is known


def score_case(
    prediction: NdarrayOrTensor,
    label: NdarrayOrTensor,
    region: NdarrayOrTensor | None = None,
    spacing: Sequence[float] | None = None,
) -> dict[str, float]:
    """Every score of one predicted mask.

    Args:
        prediction: (H, W) or (D, H, W), in {0, 1}; one structure, no channel axis.
        label: same shape, in {0, 1}.
        region: same shape, true where pixels count (a field of view), or None for the whole image. For HD95 both masks
            are emptied outside it.
        spacing: size of a voxel in mm, one number an axis in the order of the array's axes, where it is known.

    Returns:
        `dice`, `iou`, `recall`, `accuracy` in [0, 1] and `hd95` in voxels, NaN where undefined (see `overlap` and
        `surface`); the counts `tp`, `fp`, `fn`, `tn`; and with a spacing `hd95_mm`.
    """
    counts = confusion_counts(prediction, label, region)
    scores = {name: score(counts) for name, score in OVERLAP_SCORES.items()}
    scores["hd95"] = hd95(prediction, label, region=region)
    in_mm = {} if spacing is None else {"hd95_mm": hd95(prediction, label, spacing_mm=spacing, region=region)}
    return {name: scores[name] for name in METRICS} | counts._asdict() | in_mm


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over cases, and the micro scores of all their pixels pooled.

    Args:
        rows: one `score_case` result a case, other keys are ignored; one method, region and target at a time.

    Returns:
        `cases`, the number of rows; for each metric a dict with `mean`, `sd` (n - 1 in the denominator, NaN below two),
        `n` the cases where it is defined, and `nan_ratio` the share where it is not; `hd95_mm` where rows have it; and
        `micro`, the scores of the summed counts, which weigh a case by its pixels.

    Raises:
        ValueError: no rows, or HD95 in mm in some only.
    """
    if not rows:
        raise ValueError("no rows to summarise; expected one a case: check that the evaluation found any case")
    summary: dict[str, Any] = {"cases": len(rows)}
    for name in present_metrics(rows):
        summary[name] = _spread([float(row[name]) for row in rows])
    total = ConfusionCounts(*(sum(int(row[name]) for row in rows) for name in ConfusionCounts._fields))
    summary["micro"] = {name: score(total) for name, score in OVERLAP_SCORES.items()}
    return summary


def _spread(values: list[float]) -> dict[str, float]:
    defined = np.array([value for value in values if not math.isnan(value)])
    return {
        "mean": float(defined.mean()) if defined.size > 0 else math.nan,
        "sd": float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        "n": int(defined.size),
        "nan_ratio": 1 - defined.size / len(values),
    }


def present_metrics(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """ALL_METRICS where the rows have `hd95_mm`, else METRICS.

    Raises:
        ValueError: some rows have it and some do not.
    """
    has_mm = {"hd95_mm" in row for row in rows}
    if len(has_mm) > 1:
        raise ValueError("HD95 in mm is there for some rows only; expected all or none: give all cases a spacing")
    return ALL_METRICS if True in has_mm else METRICS
