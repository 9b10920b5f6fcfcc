"""How sure a difference between two methods on the same cases is.

Cases of one patient are not independent: two eyes of a child, frames of a video, slices of a volume. The functions
therefore take the patient of each case and treat patients, not cases, as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, wilcoxon

FEWEST_PATIENTS = 5  # for the interval of a correlation


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
    means = np.round(sums / counts, 9)  # else the noise of floating point makes ranks of ties, and differences of 0
    changed = means[means != 0]
    return float(wilcoxon(changed).pvalue) if len(changed) else 1.0


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two figures of the same cases; NaN where either is the same for every case."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def correlation_interval(
    first: np.ndarray,
    second: np.ndarray,
    patients: Sequence[str],
    num_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of `rank_correlation`, patients drawn with replacement with all their cases.

    Args:
        first: (N,).
        second: (N,).
        patients: N names.
        num_resamples: how often the patients are drawn; draws without a correlation are left out.
        level: share of resampled correlations inside.
        seed: of the draws.

    Returns:
        Its bounds; None below `FEWEST_PATIENTS` patients, where it would say nothing, or without a correlation.
    """
    names, numbers = np.unique(np.asarray(patients, str), return_inverse=True)
    if len(names) < FEWEST_PATIENTS or math.isnan(rank_correlation(first, second)):
        return None
    members = [np.flatnonzero(numbers == number) for number in range(len(names))]
    draws = np.random.default_rng(seed).integers(len(names), size=(num_resamples, len(names)))
    drawn = (np.concatenate([members[number] for number in draw]) for draw in draws)
    found = np.array([rank_correlation(first[cases], second[cases]) for cases in drawn])
    tail = (1 - level) / 2
    low, high = np.nanquantile(found, (tail, 1 - tail))
    return float(low), float(high)


def _by_patient(differences: np.ndarray, patients: Sequence[str] | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the differences and number of cases of each patient."""
    if patients is None:
        return differences, np.ones(len(differences))
    _, numbers = np.unique(np.asarray(patients, str), return_inverse=True)
    return np.bincount(numbers, differences), np.bincount(numbers).astype(float)
