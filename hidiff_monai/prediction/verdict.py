"""What a mask amounts to: sizes, how sure the network is, and what the refiner did to the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hidiff_monai.inferers import case_uncertainty

HARD_CHANGE = 0.1  # of the mask


def measure_classes(
    refined: np.ndarray, prior: np.ndarray, names: Sequence[str], voxel_ml: float | None
) -> list[dict[str, Any]]:
    """Pixels of each class and, of volumes, their ml.

    Args:
        refined: class numbers, any shape.
        prior: likewise.
        names: of the classes 1 ... K.
        voxel_ml: volume of a voxel in ml; None for photographs.
    """
    after, before = (np.bincount(mask.ravel(), minlength=len(names) + 1) for mask in (refined, prior))
    return [
        {
            "name": name,
            "pixels": int(after[number]),
            "ml": None if voxel_ml is None else round(float(after[number] * voxel_ml), 4),
            "prior_pixels": int(before[number]),
            "dice": None,
        }
        for number, name in enumerate(names, start=1)
    ]


def measure_uncertainty(entropy: np.ndarray, refined: np.ndarray) -> float | None:
    """Entropy in nats per foreground pixel; None where the mask is empty."""
    if not refined.any():
        return None
    return case_uncertainty(torch.from_numpy(entropy).double(), torch.from_numpy((refined > 0).astype(np.float32)))


def judge(
    refined: np.ndarray, prior: np.ndarray, uncertainty: float | None, hard_uncertainty: float | None
) -> dict[str, Any]:
    """The refiner's verdict: how much of the mask it changed and where, and whether the case looks hard.

    Args:
        refined: class numbers, (H, W) upright or (X, Y, D) in RAS.
        prior: likewise.
        uncertainty: nats per foreground pixel, or None.
        hard_uncertainty: from which on a case looks hard, or None where nobody has said.

    Returns:
        *agreement*, Dice of prior and refined over all classes; *changed_pixels*; *changed_share* of the larger
        foreground; *where*, in words; *looks_hard* and its *reasons*.
    """
    changed = refined != prior
    sizes = (int((refined > 0).sum()), int((prior > 0).sum()))
    share = float(changed.sum() / max(sizes)) if max(sizes) else None
    same = int(((refined == prior) & (refined > 0)).sum())
    reasons = ["no pixel is foreground"] if not sizes[0] else []
    if share is not None and share > HARD_CHANGE:
        reasons.append(f"the refiner changed {share:.0%} of the mask, more than {HARD_CHANGE:.0%}")
    if uncertainty is not None and hard_uncertainty is not None and uncertainty > hard_uncertainty:
        reasons.append(f"{uncertainty:.3f} nats a mask pixel, more than the usual {hard_uncertainty:.3f}")
    return {
        "agreement": 2 * same / sum(sizes) if sum(sizes) else None,
        "changed_pixels": int(changed.sum()),
        "changed_share": share,
        "where": describe_place(changed),
        "looks_hard": bool(reasons),
        "reasons": reasons,
    }


def describe_place(changed: np.ndarray) -> str:
    """Where pixels changed: rows and columns of a photograph, slices of a volume (from 0, at the feet)."""
    if not changed.any():
        return "nowhere"
    if changed.ndim == 3:
        by_slice = changed.sum(axis=(0, 1))
        touched = np.flatnonzero(by_slice)
        span = f"slice {touched[0]}" if len(touched) == 1 else f"slices {touched[0]} to {touched[-1]}"
        return f"{span}, most in slice {int(by_slice.argmax())}"
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    height, width = changed.shape
    weights = np.argwhere(changed).mean(axis=0) / (height, width)
    vertical = ("upper", "middle", "lower")[min(int(weights[0] * 3), 2)]
    horizontal = ("left", "centre", "right")[min(int(weights[1] * 3), 2)]
    span = f"rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}"
    return f"{span}, mostly {vertical} {horizontal}"


def most_telling_slice(maps_refined: np.ndarray, prior: np.ndarray, entropy: np.ndarray) -> int:
    """The slice to show of (X, Y, D): where most entropy lies on the masks, or the largest mask, or the middle."""
    touched = (maps_refined > 0) | (prior > 0)
    for amount in ((entropy * touched).sum(axis=(0, 1)), touched.sum(axis=(0, 1))):
        if amount.max() > 0:
            return int(amount.argmax())
    return int(maps_refined.shape[2] // 2)
