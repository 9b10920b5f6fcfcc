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
        spacing: size of a voxel in mm, one number an axis in the order of the array's axes; None: HD95 in voxels.

    Returns:
        `dice`, `iou`, `recall`, `accuracy` in [0, 1] and `hd95`, NaN where undefined (see `overlap` and `surface`); the
        counts `tp`, `fp`, `fn`, `tn`; and `hd95_is_mm`, false when HD95 is in voxels.
    """
    counts = confusion_counts(prediction, label, region)
    scores = {name: score(counts) for name, score in OVERLAP_SCORES.items()}
    scores["hd95"] = hd95(prediction, label, spacing_mm=spacing, region=region)
    return {name: scores[name] for name in METRICS} | counts._asdict() | {"hd95_is_mm": spacing is not None}


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over cases, and the micro scores of all their pixels pooled.

    Args:
        rows: one `score_case` result a case, other keys are ignored; one method, region and target at a time.

    Returns:
        `cases`, the number of rows; for each metric a dict with `mean`, `sd` (n - 1 in the denominator, NaN below two),
        `n` the cases where it is defined, and `nan_ratio` the share where it is not; `hd95` also has its `unit`; and
        `micro`, the scores of the summed counts, which weigh a case by its pixels.

    Raises:
        ValueError: no rows, or HD95 in mm in some and in voxels in others.
    """
    if not rows:
        raise ValueError("no rows to summarise; expected one a case: check that the evaluation found any case")
    summary: dict[str, Any] = {"cases": len(rows)}
    for name in METRICS:
        summary[name] = _spread([float(row[name]) for row in rows])
    summary["hd95"]["unit"] = _hd95_unit(rows)
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


def _hd95_unit(rows: Sequence[Mapping[str, Any]]) -> str:
    units = {"mm" if row.get("hd95_is_mm", False) else "voxels" for row in rows}
    if len(units) > 1:
        raise ValueError("HD95 is in mm in some rows, in voxels in others; expected one unit: give all cases a spacing")
    return units.pop()
