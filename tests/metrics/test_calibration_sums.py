"""Sums against the scores of all pixels at once."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from hidiff_monai.metrics import ProbabilitySums


def draw(seed: int, shape: tuple[int, ...] = (30, 40)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    probability = rng.random(shape)
    return torch.from_numpy(probability), torch.from_numpy(rng.random(shape) < probability**2)


def test_scores_are_those_of_scikit_learn() -> None:
    probability, truth = draw(0)
    sums = ProbabilitySums.of(probability, truth)
    frequency, mean = calibration_curve(truth.ravel(), probability.ravel(), n_bins=20)
    assert sums.bins.frequency == pytest.approx(frequency) and sums.bins.mean_probability == pytest.approx(mean)
    counts = np.histogram(probability, 20, (0, 1))[0]
    assert sums.bins.counts.tolist() == counts.tolist() and sums.number == 1200
    assert sums.scores() == pytest.approx(
        {
            "ece": np.average(np.abs(mean - frequency), weights=counts),
            "brier": brier_score_loss(truth.ravel(), probability.ravel()),
            "nll": log_loss(truth.ravel(), probability.ravel()),
        }
    )


def test_sums_of_parts_are_those_of_the_whole() -> None:
    probability, truth = draw(1)
    parts = [ProbabilitySums.of(probability[rows], truth[rows]) for rows in (slice(0, 7), slice(7, 30))]
    whole, joined = ProbabilitySums.of(probability, truth), parts[0] + parts[1]
    assert joined.counts.tolist() == whole.counts.tolist() and joined.positives.tolist() == whole.positives.tolist()
    assert joined.scores() == pytest.approx(whole.scores(), abs=1e-12)


def test_sure_and_wrong_costs_much_but_is_finite() -> None:
    sums = ProbabilitySums.of(torch.tensor([1.0, 0.0]), torch.tensor([False, False]))
    assert sums.counts[[0, -1]].tolist() == [1, 1]
    assert sums.scores() == pytest.approx({"ece": 0.5, "brier": 0.5, "nll": 23 * np.log(2) / 2})


def test_what_rounding_left_outside_is_brought_inside_and_more_is_refused() -> None:
    truth = torch.tensor([True, False])
    assert ProbabilitySums.of(torch.tensor([1 + 1e-6, -1e-6]), truth).scores()["brier"] == 0
    for wrong in (1.5, float("nan")):
        with pytest.raises(ValueError, match="expected \\[0, 1\\] without NaN"):
            ProbabilitySums.of(torch.tensor([wrong, 0.5]), truth)
    with pytest.raises(ValueError, match=r"shape \(2,\), the label \(3,\)"):
        ProbabilitySums.of(torch.zeros(2), torch.zeros(3, dtype=torch.bool))
