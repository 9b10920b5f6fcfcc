"""Whether a probability means what it says.

All functions look at the pixels of one case, inside `region` where given (a field of view; same shape as the label).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from monai.config import NdarrayOrTensor
from monai.utils import convert_to_numpy

from .overlap import binary_array, paired_masks


class ReliabilityBins(NamedTuple):
    """A reliability diagram of the structure's probability, one entry a bin.

    Attributes:
        edges: (num_bins + 1,), from 0 to 1; a bin holds its left edge, the last bin both.
        counts: (num_bins,), pixels in the bin.
        mean_probability: (num_bins,), in [0, 1]; NaN in an empty bin.
        frequency: (num_bins,), share of the bin's pixels that the label calls structure; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    mean_probability: np.ndarray
    frequency: np.ndarray


def reliability_bins(
    probability: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None = None, num_bins: int = 10
) -> ReliabilityBins:
    """Sort pixels into equal-width bins of predicted probability and compare each bin with the label.

    Args:
        probability: p of the structure, (H, W) or (D, H, W), in [0, 1].
        label: same shape, in {0, 1}.
        region: same shape, or None for every pixel.
        num_bins: at least 1.

    Raises:
        ValueError: shapes differ, a probability outside [0, 1], or fewer than one bin.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; expected at least 1")
    predicted, truth = _probability_and_truth(probability, label, region)
    edges = np.linspace(0, 1, num_bins + 1)
    index = np.searchsorted(edges[1:-1], predicted, side="right")
    counts = np.bincount(index, minlength=num_bins)
    filled = np.where(counts > 0, counts, np.nan)
    return ReliabilityBins(
        edges,
        counts,
        np.bincount(index, weights=predicted, minlength=num_bins) / filled,
        np.bincount(index, weights=truth, minlength=num_bins) / filled,
    )


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """ECE = sum_b n_b/N |mean probability_b - frequency_b|, in [0, 1], 0 is calibrated (Naeini et al., AAAI 2015).

    Of the probability of the structure, not of the confidence max(p, 1 - p) in whichever class won. Pixels that are
    surely background make it small: compare it only between methods on the same region.
    """
    gap = np.abs(bins.mean_probability - bins.frequency)
    return float(np.nansum(bins.counts * gap) / bins.counts.sum())


def brier_score(probability: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None = None) -> float:
    """Brier score = mean (p - y)^2 over pixels, in [0, 1], lower is better (arguments as `reliability_bins`)."""
    predicted, truth = _probability_and_truth(probability, label, region)
    return float(np.mean((predicted - truth) ** 2))


def _probability_and_truth(
    probability: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both as flat float64 arrays of the pixels inside the region."""
    truth = binary_array(label, "label")
    predicted = finite_array(probability, truth.shape, "probability")
    _, truth, inside = paired_masks(truth, truth, region)
    if predicted.min() < 0 or predicted.max() > 1:
        raise ValueError(
            f"probability spans [{predicted.min():g}, {predicted.max():g}]; expected [0, 1]: apply the sigmoid first"
        )
    return predicted[inside], truth[inside].astype(np.float64)


def finite_array(values: NdarrayOrTensor, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The values in float64.

    Raises:
        ValueError: they have another shape, or are not finite.
    """
    array = np.asarray(convert_to_numpy(values), dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected the label's {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; expected finite numbers: check the network's output")
    return array
