"""How sure a difference between two methods on the same cases is.

Cases of one patient are not independent: two eyes of a child, frames of a video, slices of a volume. Both functions
therefore take the patient of each case and treat patients, not cases, as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon


def paired_bootstrap(
    differences: np.ndarray,
    patients: Sequence[str] | np.ndarray | None = None,
    num_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences (Efron and Tibshirani, 1993, chapters 8 and 13).

    Patients are drawn with replacement, with all their cases, prior and refined of a case together: the interval says
    how the mean gain over cases could vary with other patients of the same kind, not with another training run.

    Args:
        differences: (N,), N >= 1.
        patients: N names; None takes each case as a patient of its own.
        num_resamples: how often the cases are drawn.
        level: share of resampled means inside.
        seed: of the draws.
    """
    sums, counts = _by_patient(np.asarray(differences, float), patients)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(num_resamples, len(sums)))
    tail = (1 - level) / 2
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (tail, 1 - tail))
    return float(low), float(high)


def paired_wilcoxon(differences: np.ndarray, patients: Sequence[str] | np.ndarray | None = None) -> float:
    """Two-sided p value of the signed-rank test that paired differences lie symmetrically around 0 (Wilcoxon, 1945).

    A patient counts once, with the mean of its cases. Differences of 0 are left out; SciPy's choice of exact
    distribution (few) or normal approximation (above 50).

    Args:
        differences: (N,), finite.
        patients: N names; None takes each case as a patient of its own.

    Returns:
        p in [0, 1]; 1 where all differences are 0; NaN where there are none.
    """
    if not len(differences):
        return math.nan
    sums, counts = _by_patient(np.asarray(differences, float), patients)
    changed = (sums / counts)[sums != 0]
    return float(wilcoxon(changed).pvalue) if len(changed) else 1.0


def _by_patient(differences: np.ndarray, patients: Sequence[str] | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the differences and number of cases of each patient."""
    if patients is None:
        return differences, np.ones(len(differences))
    _, numbers = np.unique(np.asarray(patients, str), return_inverse=True)
    return np.bincount(numbers, differences), np.bincount(numbers).astype(float)
