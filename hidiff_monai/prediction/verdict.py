"""What a mask amounts to: sizes, how sure the network is, and what the refiner did to the prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hidiff_monai.inferers import case_uncertainty
from hidiff_monai.io.geometry import slice_axis, source_axes
from hidiff_monai.prediction.reference import Usual


def voxel_volume_ml(affine: np.ndarray) -> float:
    """Volume of a voxel, from a matrix (3 or 4 square) that takes voxels to mm."""
    return abs(float(np.linalg.det(np.asarray(affine, float)[:3, :3]))) / 1000


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


def compare_masks(refined: np.ndarray, prior: np.ndarray) -> dict[str, Any]:
    """How much of the mask the refiner changed.

    Args:
        refined: class numbers, any shape.
        prior: likewise.

    Returns:
        *agreement*, Dice of prior and refined over all classes, None where both are empty; *changed_pixels*;
        *changed_share* of the larger foreground, None likewise.
    """
    changed = int((refined != prior).sum())
    sizes = (int((refined > 0).sum()), int((prior > 0).sum()))
    same = int(((refined == prior) & (refined > 0)).sum())
    return {
        "agreement": 2 * same / sum(sizes) if sum(sizes) else None,
        "changed_pixels": changed,
        "changed_share": changed / max(sizes) if max(sizes) else None,
    }


def why_hard(verdict: Mapping[str, Any], uncertainty: float | None, usual: Usual) -> list[str]:
    """The reasons why a case looks hard, none where it does not.

    Args:
        verdict: of `compare_masks`.
        uncertainty: nats a mask pixel; None where the mask is empty.
        usual: beyond which a case looks hard.
    """
    share = verdict["changed_share"]
    reasons = ["no pixel is foreground"] if uncertainty is None else []
    if share is not None and share > usual.changed_share:
        text = f"the refiner changed {100 * share:.2f} % of the mask, more than the {usual.word}"
        reasons.append(f"{text} {100 * usual.changed_share:.2f} %")
    if uncertainty is not None and usual.uncertainty is not None and uncertainty > usual.uncertainty:
        reasons.append(f"{uncertainty:.3f} nats a mask pixel, more than the usual {usual.uncertainty:.3f}")
    return reasons


class AxialAxis(NamedTuple):
    """The axis of a source along which the slices of the prediction lie.

    Attributes:
        number: of the source's axes, 0 to 2.
        is_reversed: whether the source counts from the head.
        size: number of slices.
    """

    number: int
    is_reversed: bool
    size: int

    def to_source(self, position: int) -> int:
        """A slice counted from the feet, as the source counts it."""
        return self.size - 1 - position if self.is_reversed else position


def axial_axis(meta: Mapping[str, Any]) -> AxialAxis:
    """Of a volume's *image*, from `LoadScand`."""
    axes = source_axes(meta["source_affine"], meta.get("axes"))
    number = slice_axis(axes)
    return AxialAxis(number, bool(axes[number, 1] < 0), int(meta["source_shape"][number]))


def describe_place(changed: np.ndarray, axis: AxialAxis | None = None) -> str:
    """Where pixels changed, in words and in the numbers of the source, from 0.

    Args:
        changed: (H, W) upright, or (X, Y, D) in RAS.
        axis: of a volume.
    """
    if not changed.any():
        return "nowhere"
    if axis is not None:
        by_slice = changed.sum(axis=(0, 1))
        first, last = sorted(axis.to_source(int(number)) for number in np.flatnonzero(by_slice)[[0, -1]])
        span = f"slice {first}" if first == last else f"slices {first} to {last}"
        which = "" if axis.number == 2 else f" along axis {axis.number}"
        return f"{span}{which}, most in slice {axis.to_source(int(by_slice.argmax()))}"
    rows, columns = (np.flatnonzero(changed.any(axis=other)) for other in (1, 0))
    weights = np.argwhere(changed).mean(axis=0) / changed.shape
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
