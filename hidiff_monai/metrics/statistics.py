"""How sure a difference between two methods on the same cases is.

Both functions take cases as independent. Two eyes of a child or frames of a video are not: the interval is then too
narrow and p too small.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import wilcoxon


def paired_bootstrap(
    differences: np.ndarray, num_resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences (Efron and Tibshirani, 1993, chapter 13).

    Cases are drawn with replacement, prior and refined of a case together: the interval says how the mean gain could
    vary with other images of the same kind, not with another training run.

    Args:
        differences: (N,), N >= 1.
        num_resamples: how often the cases are drawn.
        level: share of resampled means inside.
        seed: of the draws.
    """
    drawn = np.random.default_rng(seed).integers(len(differences), size=(num_resamples, len(differences)))
    tail = (1 - level) / 2
    low, high = np.quantile(differences[drawn].mean(axis=1), (tail, 1 - tail))
    return float(low), float(high)


def paired_wilcoxon(differences: np.ndarray) -> float:
    """Two-sided p value of the signed-rank test that paired differences lie symmetrically around 0 (Wilcoxon, 1945).

    Differences of 0 are left out; SciPy's choice of exact distribution (few cases) or normal approximation (above 50).

    Args:
        differences: (N,), finite.

    Returns:
        p in [0, 1]; 1 where all differences are 0; NaN where there are none.
    """
    if not len(differences):
        return math.nan
    changed = np.asarray(differences, float)[np.asarray(differences) != 0]
    return float(wilcoxon(changed).pvalue) if len(changed) else 1.0
