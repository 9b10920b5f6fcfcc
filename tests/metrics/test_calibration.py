"""Calibration against scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from hidiff_monai.metrics import brier_score, expected_calibration_error, reliability_bins

SHAPE = (60, 50)


@pytest.fixture
def forecast() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    probability = rng.random(SHAPE)
    return probability, rng.random(SHAPE) < probability**2


def test_bins_equal_scikit_learn(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    probability, label = forecast
    frequency, mean = calibration_curve(label.ravel(), probability.ravel(), n_bins=15)
    bins = reliability_bins(probability, label, num_bins=15)
    assert bins.frequency == pytest.approx(frequency, abs=1e-12)
    assert bins.mean_probability == pytest.approx(mean, abs=1e-12)
    assert bins.counts.sum() == label.size
    expected = np.sum(bins.counts * np.abs(frequency - mean)) / label.size
    assert expected_calibration_error(bins) == pytest.approx(expected, abs=1e-12)


def test_a_calibrated_forecast_has_a_small_error_and_a_distorted_one_has_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((400, 500))
    calibrated, squared = (rng.random(probability.shape) < mean for mean in (probability, probability**2))
    assert expected_calibration_error(reliability_bins(probability, calibrated)) < 0.005
    # the gap is p - p^2 everywhere, so ECE = integral of p - p^2 = 1/6
    assert expected_calibration_error(reliability_bins(probability, squared)) == pytest.approx(1 / 6, abs=0.005)


def test_bins_by_hand() -> None:
    """0.5 opens the upper bin and 1 stays in the last; ECE = (2 * |0.1 - 0.5| + 2 * |0.75 - 1|) / 4 = 0.325."""
    bins = reliability_bins(np.array([[0.0, 0.2, 0.5, 1.0]]), np.array([[0, 1, 1, 1]]), num_bins=2)
    assert bins.edges.tolist() == [0, 0.5, 1]
    assert bins.counts.tolist() == [2, 2]
    assert bins.mean_probability == pytest.approx([0.1, 0.75])
    assert bins.frequency == pytest.approx([0.5, 1.0])
    assert expected_calibration_error(bins) == pytest.approx(0.325)


def test_an_empty_bin_is_nan_and_leaves_the_error_alone() -> None:
    bins = reliability_bins(np.full((2, 2), 0.05), np.zeros((2, 2)), num_bins=10)
    assert np.isnan(bins.frequency[1:]).all() and np.isnan(bins.mean_probability[1:]).all()
    assert expected_calibration_error(bins) == pytest.approx(0.05)


def test_brier_equals_scikit_learn(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    probability, label = forecast
    expected = brier_score_loss(label.ravel(), probability.ravel())
    assert brier_score(probability, label) == pytest.approx(expected, abs=1e-12)
    assert brier_score(torch.from_numpy(probability), torch.from_numpy(label)) == pytest.approx(expected, abs=1e-12)
    assert brier_score(label.astype(float), label) == 0.0


def test_region_equals_cutting_the_pixels_out(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    probability, label = forecast
    region = np.random.default_rng(5).random(SHAPE) < 0.5
    cut_probability, cut_label = probability[region][None], label[region][None]
    assert brier_score(probability, label, region) == pytest.approx(brier_score(cut_probability, cut_label))
    bins, cut_bins = reliability_bins(probability, label, region), reliability_bins(cut_probability, cut_label)
    assert bins.counts.tolist() == cut_bins.counts.tolist()


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (np.full((2, 2), 1.5), r"probability spans \[1\.5, 1\.5\]; expected \[0, 1\]"),
        (np.full((2, 2), np.nan), "probability holds NaN or infinity"),
        (np.full((2, 3), 0.5), r"probability has shape \(2, 3\); expected the label's \(2, 2\)"),
    ],
)
def test_bad_probabilities_are_named(probability: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brier_score(probability, np.zeros((2, 2)))


def test_a_bin_is_needed() -> None:
    with pytest.raises(ValueError, match="num_bins is 0; expected at least 1"):
        reliability_bins(np.zeros((2, 2)), np.zeros((2, 2)), num_bins=0)
