"""The bootstrap against enumeration and SciPy; the signed-rank test against all 2^N signs."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from hidiff_monai.metrics import correlation_interval, paired_bootstrap, paired_wilcoxon, rank_correlation


def test_bootstrap_of_equal_differences_has_no_width():
    np.testing.assert_allclose(paired_bootstrap(np.full(7, 0.25)), (0.25, 0.25))


def test_bootstrap_equals_the_enumeration_of_all_resamples():
    differences = np.array([0.0, 1.0, 5.0])
    means = [np.mean(drawn) for drawn in itertools.product(differences, repeat=3)]  # 27, equally likely
    for level in (0.5, 0.8, 0.95):
        tail = (1 - level) / 2
        exact = np.quantile(means, (tail, 1 - tail), method="inverted_cdf")
        np.testing.assert_allclose(paired_bootstrap(differences, level=level), exact, atol=1e-12)


def test_bootstrap_agrees_with_scipy():
    differences = np.random.default_rng(3).normal(0.02, 0.05, 40)
    expected = stats.bootstrap((differences,), np.mean, method="percentile", random_state=np.random.default_rng(1))
    interval = expected.confidence_interval
    np.testing.assert_allclose(paired_bootstrap(differences), (interval.low, interval.high), atol=1e-3)


def test_wilcoxon_equals_the_enumeration_of_all_signs():
    differences = np.array([0.3, -0.1, 0.7, 0.2, 0.5, -0.4, 0.6])
    ranks = stats.rankdata(np.abs(differences))
    observed = ranks[differences > 0].sum()
    centre = ranks.sum() / 2
    sums = [ranks[np.array(signs)].sum() for signs in itertools.product([False, True], repeat=7)]
    expected = np.mean([abs(total - centre) >= abs(observed - centre) for total in sums])
    assert math.isclose(paired_wilcoxon(differences), expected)
    assert math.isclose(paired_wilcoxon(-differences), expected)


def test_wilcoxon_of_six_gains_is_the_smallest_p_there_is():
    assert math.isclose(paired_wilcoxon(np.arange(1.0, 7.0)), 2 / 2**6)


def test_wilcoxon_of_no_change_and_of_nothing():
    assert paired_wilcoxon(np.zeros(9)) == 1
    assert math.isnan(paired_wilcoxon(np.array([])))
    assert math.isclose(paired_wilcoxon(np.array([0.0, 0, *range(1, 7)])), 2 / 2**6)


def test_patients_with_many_cases_are_drawn_whole():
    """Two patients: drawing both, or one twice, gives three means with weights 1/4, 1/2, 1/4."""
    differences, patients = np.array([0.0, 0.0, 0.0, 4.0]), ["a", "a", "a", "b"]
    low, high = paired_bootstrap(differences, patients)
    assert (low, high) == (0, 4)
    assert paired_bootstrap(differences, patients, level=0.4) == pytest.approx((1, 1))
    alone = paired_bootstrap(np.array([0.0, 4.0]))
    assert alone == (0, 4)


def test_a_patient_counts_once_in_the_test():
    differences = np.array([*np.arange(1.0, 7.0), 8, 6])
    patients = [*"abcdef", "g", "g"]
    assert math.isclose(paired_wilcoxon(differences, patients), paired_wilcoxon(np.array([*np.arange(1.0, 7.0), 7])))


def test_rank_correlation_is_that_of_scipy_with_ties():
    first, second = np.array([1.0, 2, 2, 5, 9, 4]), np.array([8.0, 6, 7, 7, 1, 2])
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation(first, -(first**3)) == pytest.approx(-1)
    assert math.isnan(rank_correlation(np.ones(3), np.arange(3)))
    assert math.isnan(rank_correlation(np.ones(1), np.ones(1)))


def test_the_interval_of_a_correlation_agrees_with_scipy():
    rng = np.random.default_rng(4)
    first = rng.normal(size=40)
    second = -first + rng.normal(size=40)
    expected = stats.bootstrap(
        (first, second), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False,
        method="percentile", n_resamples=2000, random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = correlation_interval(first, second, [str(i) for i in range(40)])
    assert found == pytest.approx((expected.low, expected.high), abs=0.03)


def test_the_interval_of_a_correlation_takes_patients():
    """Every case twice is no more knowledge: the interval is that of the single cases, not a narrower one."""
    rng = np.random.default_rng(4)
    first, noise = rng.normal(size=12), rng.normal(size=12)
    names = [str(i) for i in range(12)]
    once = correlation_interval(first, first + noise, names)
    twice = correlation_interval(np.tile(first, 2), np.tile(first + noise, 2), names * 2)
    assert twice == pytest.approx(once)
    assert correlation_interval(np.arange(8.0), np.arange(8.0), [*"abcdabcd"]) is None  # four patients
    assert correlation_interval(np.ones(8), np.arange(8.0), [*"abcdefgh"]) is None


def test_ties_and_differences_of_0_are_told_from_the_noise_of_floating_point():
    """0.1 + 0.2 - 0.3 is no difference, and thirds that are equal on paper share a rank."""
    found = paired_wilcoxon([0.1, 0.2, -0.3, 5, 4, 3, 2, -1], list("aaabcdef"))
    assert found == stats.wilcoxon([5, 4, 3, 2, -1]).pvalue
    counts = np.array([1, 1, -1, 1, 1, 1, 1, -1])
    assert paired_wilcoxon(100 * (0.7 + counts / 1000) - 100 * 0.7) == stats.wilcoxon(counts).pvalue
