"""What calibration is computed from, as sums: of slices that come one by one, of cases, of processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

NUM_BINS = 20  # an even number: the decision at 1/2 lies between two bins
TOLERANCE = 1e-3  # weighted means of windows leave [0, 1] by rounding


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


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """ECE = sum_b n_b/N |mean probability_b - frequency_b|, in [0, 1], 0 is calibrated (Naeini et al., AAAI 2015).

    Of the probability of the structure, not of the confidence max(p, 1 - p) in whichever class won. Pixels that are
    surely background make it small: compare it only between methods on the same region.
    """
    gap = np.abs(bins.mean_probability - bins.frequency)
    return float(np.nansum(bins.counts * gap) / bins.counts.sum())


@dataclass(frozen=True)
class ProbabilitySums:
    """Sums over any number of pixels, of one structure or of several.

    Attributes:
        counts: (bins,), pixels in each of the equal-width bins of the probability.
        probability: (bins,), sum of the probability.
        positives: (bins,), pixels that the label calls structure.
        squared_error: sum of (p - y)^2.
        log_loss: sum of -log of the probability of the label, in nats.
    """

    counts: np.ndarray
    probability: np.ndarray
    positives: np.ndarray
    squared_error: float
    log_loss: float

    @classmethod
    def of(cls, probability: torch.Tensor, truth: torch.Tensor, num_bins: int = NUM_BINS) -> ProbabilitySums:
        """The sums of some pixels, computed where they lie.

        Args:
            probability: p of the structure, any shape, in [0, 1].
            truth: same shape, bool.
            num_bins: bins of equal width; a bin holds its left edge, the last one both.

        Raises:
            ValueError: a probability is NaN or outside [0, 1], shapes differ, or fewer than one bin.
        """
        if num_bins < 1:
            raise ValueError(f"num_bins is {num_bins}; expected at least 1")
        if probability.shape != truth.shape:
            raise ValueError(
                f"probability has shape {tuple(probability.shape)}, the label {tuple(truth.shape)}; expected one shape"
            )
        if not ((probability > -TOLERANCE) & (probability < 1 + TOLERANCE)).all():
            raise ValueError(
                f"probability spans [{probability.min():g}, {probability.max():g}]; expected [0, 1] without NaN: check "
                "the checkpoint, and that the inferer returns probabilities"
            )
        if probability.device.type == "mps":  # knows no float64
            probability, truth = probability.cpu(), truth.cpu()
        values = probability.flatten().double().clamp(0, 1)
        is_true = truth.flatten()
        edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64, device=values.device)
        index = torch.bucketize(values, edges[1:-1], right=True)
        of_label = torch.where(is_true, values, 1 - values)
        eps = torch.finfo(torch.float32).eps
        return cls(
            torch.bincount(index, minlength=num_bins).cpu().numpy(),
            torch.bincount(index, weights=values, minlength=num_bins).cpu().numpy(),
            torch.bincount(index[is_true], minlength=num_bins).cpu().numpy(),
            float((1 - of_label).square().sum()),
            float(-of_label.clamp(min=eps).log().sum()),
        )

    def __add__(self, other: ProbabilitySums) -> ProbabilitySums:
        return ProbabilitySums(
            self.counts + other.counts,
            self.probability + other.probability,
            self.positives + other.positives,
            self.squared_error + other.squared_error,
            self.log_loss + other.log_loss,
        )

    @property
    def number(self) -> int:
        """Pixels."""
        return int(self.counts.sum())

    @property
    def bins(self) -> ReliabilityBins:
        """The reliability diagram."""
        filled = np.where(self.counts > 0, self.counts, np.nan)
        edges = np.linspace(0, 1, len(self.counts) + 1)
        return ReliabilityBins(edges, self.counts, self.probability / filled, self.positives / filled)

    def scores(self) -> dict[str, float]:
        """*ece* and *brier*, in [0, 1], and *nll*, the log-likelihood loss in nats, each a mean over the pixels."""
        return {
            "ece": expected_calibration_error(self.bins),
            "brier": self.squared_error / self.number,
            "nll": self.log_loss / self.number,
        }
