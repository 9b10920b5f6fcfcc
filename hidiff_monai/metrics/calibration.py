"""Whether a probability means what it says.

All functions look at the pixels of one case, inside `region` where given (a field of view; same shape as the label).
"""

from __future__ import annotations

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.utils import convert_to_numpy

from .calibration_sums import ProbabilitySums, ReliabilityBins
from .overlap import binary_array, paired_masks


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
    return _sums(probability, label, region, num_bins).bins


def brier_score(probability: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None = None) -> float:
    """Brier score = mean (p - y)^2 over pixels, in [0, 1], lower is better (arguments as `reliability_bins`)."""
    return _sums(probability, label, region).scores()["brier"]


def _sums(
    probability: NdarrayOrTensor, label: NdarrayOrTensor, region: NdarrayOrTensor | None, num_bins: int = 1
) -> ProbabilitySums:
    """Those of the pixels inside the region, in float64."""
    truth = binary_array(label, "label")
    predicted = finite_array(probability, truth.shape, "probability")
    _, truth, inside = paired_masks(truth, truth, region)
    return ProbabilitySums.of(torch.from_numpy(predicted[inside]), torch.from_numpy(truth[inside]), num_bins)


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
