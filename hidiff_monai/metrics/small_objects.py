"""The small objects of the paper's Sec. III-D: organs below 500 pixels a slice, tumours below 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import NdarrayOrTensor

from .cases import score_case
from .overlap import paired_masks

SMALL_ORGAN_PIXELS = 500
SMALL_TUMOUR_PIXELS = 100


def select_small(rows: Sequence[Mapping[str, Any]], max_pixels: int) -> list[dict[str, Any]]:
    """The rows whose label has at least one pixel and fewer than `max_pixels`; the label is what was TP or FN.

    Args:
        rows: of 2-D images or slices, with the counts of `score_case`.
        max_pixels: the first size that is not small.

    Raises:
        ValueError: none is left, or the rows are of whole volumes, where the limit per slice means nothing.
    """
    if any(row.get("region") == "whole volume" for row in rows):
        raise ValueError("these scores are of whole volumes; expected 2-D images: small objects are counted per slice")
    small = [dict(row) for row in rows if 0 < int(row["tp"]) + int(row["fn"]) < max_pixels]
    if not small:
        raise ValueError(f"no label has 1 to {max_pixels - 1} pixels; expected some: raise the limit")
    return small


def score_small_slices(
    prediction: NdarrayOrTensor, label: NdarrayOrTensor, max_pixels: int, spacing: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """`score_case` of each slice in which the label is small, with its number as "slice".

    Args:
        prediction: (D, H, W), in {0, 1}; one structure.
        label: same shape.
        max_pixels: a slice counts if its label has at least one pixel and fewer than this.
        spacing: size of a pixel in mm along H and W; None: HD95 in voxels.
    """
    found, truth, _ = paired_masks(prediction, label)
    if truth.ndim != 3:
        raise ValueError(f"masks have shape {truth.shape}; expected (D, H, W): use select_small for 2-D cases")
    area = truth.sum(axis=(1, 2))
    numbers = np.flatnonzero((area > 0) & (area < max_pixels))
    return [{"slice": int(z), **score_case(found[z], truth[z], spacing=spacing)} for z in numbers]
