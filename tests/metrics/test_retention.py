"""Error retention against ROC AUC, closed forms and a curve by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hidiff_monai.metrics import HalfLevels, area_under_error_retention, error_retention, ideal_curve

SHAPE = (60, 50)


@pytest.mark.parametrize("num_levels", [5, 1000], ids=["many ties", "few ties"])
def test_retention_equals_its_closed_form_in_roc_auc(num_levels: int) -> None:
    """With A the ROC AUC of "uncertainty finds errors", the area is e (e/2 + (1 - e) (1 - A))."""
    rng = np.random.default_rng(11)
    prediction, label = rng.random(SHAPE) < 0.4, rng.random(SHAPE) < 0.4
    wrong = prediction != label
    uncertainty = np.floor((rng.random(SHAPE) + 0.5 * wrong) * num_levels)
    rate, auc = wrong.mean(), roc_auc_score(wrong.ravel(), uncertainty.ravel())
    expected = rate * (rate / 2 + (1 - rate) * (1 - auc))
    assert area_under_error_retention(uncertainty, prediction, label) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("uncertainty", "area"),
    [([[0, 1, 2, 3]], 0.25**2 / 2), ([[7, 7, 7, 7]], 0.25 / 2), ([[3, 2, 1, 0]], 0.25 - 0.25**2 / 2)],
    ids=["errors last", "constant", "errors first"],
)
def test_retention_of_one_error_in_four(uncertainty: list[list[int]], area: float) -> None:
    prediction, label = np.array([[1, 0, 0, 1]]), np.array([[1, 0, 0, 0]])
    assert area_under_error_retention(np.array(uncertainty), prediction, label) == pytest.approx(area)
    assert area_under_error_retention(np.array(uncertainty), label, label) == 0.0


def test_region_equals_cutting_the_pixels_out() -> None:
    rng = np.random.default_rng(5)
    prediction, label, region = (rng.random(SHAPE) < share for share in (0.4, 0.4, 0.5))
    uncertainty = rng.random(SHAPE)
    cut = (array[region][None] for array in (uncertainty, prediction, label))
    assert area_under_error_retention(uncertainty, prediction, label, region) == pytest.approx(
        area_under_error_retention(*cut)
    )


def test_curve_of_four_pixels_by_hand() -> None:
    """The second surest is wrong, the two least sure enter together, one of them wrong: 0, 0, 1/4, -, 1/2."""
    found = error_retention(np.array([[0.1, 0.2, 0.7, 0.7]]), np.array([[0, 1, 1, 0]]), np.array([[0, 0, 0, 0]]))
    assert found.curve[[0, 25, 50, 75, 100]] == pytest.approx([0, 0, 0.25, 0.375, 0.5])
    assert found.area == pytest.approx(0.25 * 0.25 / 2 + 0.5 * 0.375)
    assert (found.error_rate, found.ideal_area, found.random_area) == (0.5, 0.125, 0.25)


def test_the_best_order_has_the_ideal_curve() -> None:
    wrong = np.arange(1000)[None] >= 900
    found = error_retention(np.arange(1000)[None], wrong, np.zeros((1, 1000)))
    assert found.curve == pytest.approx(ideal_curve(0.1), abs=1e-12)
    assert found.area == pytest.approx(found.ideal_area)


def test_counted_levels_of_float16_equal_the_sorted_pixels() -> None:
    rng = np.random.default_rng(2)
    entropy = (0.69 * rng.random((20, 10, 7)) ** 4).astype(np.float16)
    entropy[:5] = 0
    prediction, label = rng.random(entropy.shape) < 0.3, rng.random(entropy.shape) < 0.3
    counted, exact = HalfLevels(entropy).retention(prediction != label), error_retention(entropy, prediction, label)
    assert counted.area == pytest.approx(exact.area, abs=1e-12)
    assert counted.curve == pytest.approx(exact.curve, abs=1e-12)
    assert counted.error_rate == exact.error_rate
    entropy[0, 0, 0] = -0.0
    assert HalfLevels(entropy).retention(prediction != label).area == counted.area
