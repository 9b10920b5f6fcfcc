"""Whether a probability means what it says, and whether the uncertainty points at the errors.

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


def area_under_error_retention(
    uncertainty: NdarrayOrTensor,
    prediction: NdarrayOrTensor,
    label: NdarrayOrTensor,
    region: NdarrayOrTensor | None = None,
) -> float:
    """Area under R(r) = wrong pixels among the r N least uncertain ones / N, r from 0 to 1; lower is better.

    The pixels that are not retained count as corrected by an expert, as in the Shifts benchmark (Malinin et al., 2021).
    With an error rate e the best order (errors last) gives e^2/2, an uninformative map e/2, the worst e - e^2/2.
    Pixels of equal uncertainty enter together (R is linear across them), so their order does not matter.

    Args:
        uncertainty: (H, W) or (D, H, W), finite, larger is less sure; its scale is irrelevant.
        prediction: same shape, in {0, 1}.
        label: same shape, in {0, 1}.
        region: same shape, or None for every pixel.

    Raises:
        ValueError: shapes differ or the uncertainty is not finite.
    """
    found, truth, inside = paired_masks(prediction, label, region)
    doubt = _finite_array(uncertainty, truth.shape, "uncertainty")[inside]
    _, group, sizes = np.unique(doubt, return_inverse=True, return_counts=True)
    errors = np.bincount(group.ravel(), weights=(found != truth)[inside])
    retained = np.concatenate([[0.0], np.cumsum(sizes)]) / doubt.size
    wrong = np.concatenate([[0.0], np.cumsum(errors)]) / doubt.size
    return float(np.sum(np.diff(retained) * (wrong[1:] + wrong[:-1]) / 2))


def _probability_and_truth(
    probability: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both as flat float64 arrays of the pixels inside the region."""
    truth = binary_array(label, "label")
    predicted = _finite_array(probability, truth.shape, "probability")
    _, truth, inside = paired_masks(truth, truth, region)
    if predicted.min() < 0 or predicted.max() > 1:
        raise ValueError(
            f"probability spans [{predicted.min():g}, {predicted.max():g}]; expected [0, 1]: apply the sigmoid first"
        )
    return predicted[inside], truth[inside].astype(np.float64)


def _finite_array(values: NdarrayOrTensor, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = np.asarray(convert_to_numpy(values), dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected the label's {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; expected finite numbers: check the network's output")
    return array
