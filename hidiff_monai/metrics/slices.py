"""Volumes scored slice by slice, and the small objects of the paper's Sec. III-D.

The paper's limits are 500 pixels a slice for organs of Synapse, 100 for tumours of BraTS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .cases import score_case

EVERY_SLICE, LABELLED_SLICES = "every slice", "slices with a label"


def score_slices(prediction: np.ndarray, label: np.ndarray) -> Iterator[dict[str, Any]]:
    """`score_case` of each slice of one structure, with its number as "slice".

    Args:
        prediction: (X, Y, D), in {0, 1}.
        label: same shape.
    """
    for number in range(label.shape[-1]):
        yield {"slice": number, **score_case(prediction[..., number], label[..., number])}


def regions_of_slices(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all slices, and again those of slices in which anything is labelled; "region" says which.

    Args:
        rows: one a slice, structure and method, with "is_labelled": whether the slice holds any structure.
    """
    labelled = [row for row in rows if row["is_labelled"]]
    named = ((EVERY_SLICE, rows), (LABELLED_SLICES, labelled))
    return [{**row, "region": region} for region, members in named for row in members]


def select_small(rows: Sequence[Mapping[str, Any]], max_pixels: int) -> list[dict[str, Any]]:
    """The rows whose label has at least one pixel and fewer than `max_pixels`; their "region" says so too.

    Args:
        rows: of 2-D images or slices, with the counts of `score_case`: the label is what was TP or FN.
        max_pixels: the first size that is not small.

    Raises:
        ValueError: none is left.
    """
    small = [row for row in rows if 0 < int(row["tp"]) + int(row["fn"]) < max_pixels]
    if not small:
        raise ValueError(f"no label has 1 to {max_pixels - 1} pixels; expected some: raise the limit")
    return [{**row, "region": f"{row['region']}, objects of 1 to {max_pixels - 1} pixels"} for row in small]
