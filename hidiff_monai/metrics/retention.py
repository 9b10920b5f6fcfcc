"""Whether the uncertainty points at the errors: error retention, as in the Shifts benchmark (Malinin et al., 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from monai.config import NdarrayOrTensor

from .calibration import finite_array
from .overlap import paired_masks

NUM_POINTS = 101


@dataclass(frozen=True)
class ErrorRetention:
    """R(r) = wrong pixels among the r N least uncertain ones / N, r from 0 to 1; lower is better.

    The pixels that are not retained count as corrected by an expert. Pixels of equal uncertainty enter together (R is
    linear across them), so their order does not matter.

    Attributes:
        curve: (101,), R at r = 0, 0.01, ... 1.
        area: below the whole curve, not only below those points.
        error_rate: e = R(1).
    """

    curve: np.ndarray
    area: float
    error_rate: float

    @classmethod
    def of_levels(cls, sizes: np.ndarray, errors: np.ndarray) -> ErrorRetention:
        """From pixels and wrong pixels at each level of uncertainty, the surest level first."""
        total = sizes.sum()
        retained = np.concatenate([[0.0], np.cumsum(sizes)]) / total
        wrong = np.concatenate([[0.0], np.cumsum(errors)]) / total
        area = float(np.sum(np.diff(retained) * (wrong[1:] + wrong[:-1]) / 2))
        return cls(np.interp(np.linspace(0, 1, NUM_POINTS), retained, wrong), area, float(wrong[-1]))

    @property
    def ideal_area(self) -> float:
        """e^2/2: every error is less sure than every pixel that is right."""
        return self.error_rate**2 / 2

    @property
    def random_area(self) -> float:
        """e/2: the uncertainty says nothing."""
        return self.error_rate / 2


def ideal_curve(error_rate: float) -> np.ndarray:
    """R of the best order: nothing wrong before r = 1 - e, then everything."""
    return np.maximum(np.linspace(0, 1, NUM_POINTS) - (1 - error_rate), 0)


def error_retention(
    uncertainty: NdarrayOrTensor,
    prediction: NdarrayOrTensor,
    label: NdarrayOrTensor,
    region: NdarrayOrTensor | None = None,
) -> ErrorRetention:
    """The curve of one case and one structure.

    Args:
        uncertainty: (H, W) or (D, H, W), finite, larger is less sure; its scale is irrelevant.
        prediction: same shape, in {0, 1}.
        label: same shape, in {0, 1}.
        region: same shape, or None for every pixel.

    Raises:
        ValueError: shapes differ or the uncertainty is not finite.
    """
    found, truth, inside = paired_masks(prediction, label, region)
    doubt = finite_array(uncertainty, truth.shape, "uncertainty")[inside]
    _, level, sizes = np.unique(doubt, return_inverse=True, return_counts=True)
    return ErrorRetention.of_levels(sizes, np.bincount(level.ravel(), weights=(found != truth)[inside]))


def area_under_error_retention(
    uncertainty: NdarrayOrTensor,
    prediction: NdarrayOrTensor,
    label: NdarrayOrTensor,
    region: NdarrayOrTensor | None = None,
) -> float:
    """`error_retention`'s exact area: e^2/2 at best, e/2 for an uninformative map, e - e^2/2 at worst."""
    return error_retention(uncertainty, prediction, label, region).area


class HalfLevels:
    """Levels of an uncertainty in float16, counted slice by slice: no volume is sorted, and no pixel kept.

    Args:
        uncertainty: (X, Y, D), float16, from 0; each of its values is a level.
    """

    NUM_LEVELS = 2**15  # the bit patterns of float16 without a sign rise with the number

    def __init__(self, uncertainty: np.ndarray) -> None:
        self.levels = np.abs(uncertainty).view(np.uint16)
        self.sizes = self._count(None)

    def retention(self, wrong: np.ndarray) -> ErrorRetention:
        """The curve of one structure, from where its mask is wrong: (X, Y, D), bool."""
        return ErrorRetention.of_levels(self.sizes, self._count(wrong))

    def _count(self, where: np.ndarray | None) -> np.ndarray:
        total = np.zeros(self.NUM_LEVELS, np.int64)
        for k in range(self.levels.shape[-1]):
            levels = self.levels[..., k]
            total += np.bincount((levels if where is None else levels[where[..., k]]).ravel(), minlength=len(total))
        return total


def coin_toss_nats(structures: int) -> float:
    """The uncertainty of a pixel that is one class or another, each with one half: where pictures of it are brightest.

    Of K classes that exclude each other, the background among them, it is the mean of their K binary entropies, of
    which two are then log 2 and the others 0.

    Args:
        structures: K - 1, without the background; with one it is log 2.
    """
    return 2 * math.log(2) / (structures + 1)
