"""Distance between the surfaces of two masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.metrics.utils import get_edge_surface_distance

from .overlap import paired_masks


def hd95(
    prediction: NdarrayOrTensor,
    label: NdarrayOrTensor,
    spacing_mm: Sequence[float] | None = None,
    region: NdarrayOrTensor | None = None,
) -> float:
    """95th percentile of the symmetric Hausdorff distance: max(P95 d(P→G), P95 d(G→P)).

    d(P→G) holds, for every surface pixel of P, the Euclidean distance to the nearest surface pixel of G. The surface is
    what an erosion by the face-connected cross removes, pixels at the image border included. Taking the larger of the
    two directed percentiles (linear interpolation) is MONAI's convention. MedPy's `hd95` takes one percentile of both
    directions pooled, which lets the direction with more pixels outvote the other: not comparable unless both agree.

    Args:
        prediction: P, (H, W) or (D, H, W), in {0, 1}.
        label: G, same shape, in {0, 1}.
        spacing_mm: size of a voxel in mm, one number an axis in the order of the array's axes; None measures in voxels.
        region: same shape; both masks are emptied outside it, so its edge can become a surface. None keeps everything.

    Returns:
        The distance in mm, or in voxels without `spacing_mm`; NaN where either mask is empty (undefined: count it, do
        not score it).

    Raises:
        ValueError: masks as in `paired_masks`, or a spacing that does not fit.
    """
    found, truth, inside = paired_masks(prediction, label, region)
    _check_spacing(spacing_mm, truth.ndim)
    found, truth = found & inside, truth & inside
    # MONAI would answer inf or 0 for some of these, and its aggregate scores them as 0
    if not (found.any() and truth.any()):
        return math.nan
    spacing = None if spacing_mm is None else [float(size) for size in spacing_mm]
    _, directed, _ = get_edge_surface_distance(
        torch.from_numpy(found), torch.from_numpy(truth), spacing=spacing, symmetric=True
    )
    # MONAI's own percentile is torch's, which takes 2^24 distances at most
    return float(max(np.percentile(distances.numpy(), 95) for distances in directed))


def _check_spacing(spacing_mm: Sequence[float] | None, num_axes: int) -> None:
    if spacing_mm is None:
        return
    if len(spacing_mm) != num_axes or not all(math.isfinite(size) and size > 0 for size in spacing_mm):
        raise ValueError(
            f"spacing_mm is {tuple(spacing_mm)}; expected {num_axes} positive numbers, one an axis: "
            "take them from the image header, or leave it out to measure in voxels"
        )
