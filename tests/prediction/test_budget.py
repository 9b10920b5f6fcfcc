"""The choice as a table: what fits, what ties, what does not fit."""

from __future__ import annotations

import math

import pytest

from hidiff_monai.prediction.budget import Candidate, Cost, choose_setting, fit_cost
from hidiff_monai.prediction.sampler import SamplerSetting

ONE, TWO, TEN = (SamplerSetting("hard", steps) for steps in (1, 2, 10))
MEAN = SamplerSetting("ddim", 5, 4)  # 20 chain steps
COST = Cost(fixed_s=0.1, step_s=0.01)  # a megapixel: 0.11, 0.12, 0.20 and 0.30 s


@pytest.mark.parametrize(
    ("dice", "megapixels", "budget_s", "chosen", "seconds", "fits"),
    [
        ((0.80, 0.81, 0.82, 0.83), 1.0, 1.00, MEAN, 0.30, True),  # all fit: the best
        ((0.80, 0.81, 0.82, 0.83), 1.0, 0.29, TEN, 0.20, True),  # the best of those that fit
        ((0.80, 0.81, 0.82, 0.83), 1.0, 0.20, TEN, 0.20, True),  # just fits
        ((0.80, 0.81, 0.82, 0.83), 2.0, 0.29, TWO, 0.24, True),  # a larger case
        ((0.80, 0.81, 0.82, 0.83), 1.0, 0.05, ONE, 0.11, False),  # nothing fits: the cheapest
        ((0.80, 0.8004, 0.8002, 0.80), 1.0, 1.00, ONE, 0.11, True),  # ties: the cheapest
        ((0.80, 0.81, 0.8104, 0.8106), 1.0, 1.00, TEN, 0.20, True),  # 0.0006 short of the best is no tie
        ((0.83, 0.82, 0.81, 0.80), 1.0, 1.00, ONE, 0.11, True),  # more steps that make it worse
        ((math.nan, 0.70, 0.60, 0.50), 1.0, 1.00, TWO, 0.12, True),  # what nobody measured comes last
        ((math.nan, 0.70, 0.60, 0.50), 1.0, 0.115, ONE, 0.11, True),  # unless nothing else fits
        ((0.80, 0.90, 0.90, 0.90), 1.0, 0.10, ONE, 0.11, False),  # the cheapest, not the best
    ],
)
def test_choice(
    dice: tuple[float, ...], megapixels: float, budget_s: float, chosen: SamplerSetting, seconds: float, fits: bool
) -> None:
    candidates = [Candidate(*pair) for pair in zip((ONE, TWO, TEN, MEAN), dice, strict=True)]
    for order in (candidates, candidates[::-1]):
        choice = choose_setting(order, COST, megapixels, budget_s)
        assert (choice.setting, choice.fits) == (chosen, fits)
        assert choice.seconds == pytest.approx(seconds)
        assert choice.dice == pytest.approx(dict(candidates)[chosen], nan_ok=True)


def test_the_line_goes_through_both_measurements() -> None:
    cost = fit_cost((1, 0.22), (10, 0.40), megapixels=2.0)
    assert cost == pytest.approx(Cost(0.1, 0.01))
    assert cost.seconds(ONE, 2.0) == pytest.approx(0.22) and cost.seconds(TEN, 2.0) == pytest.approx(0.40)


@pytest.mark.parametrize("many_s", [0.1, 0.2, 3.0])
def test_a_disturbed_clock_promises_too_little(many_s: float) -> None:
    """Faster with more steps, or slower than in proportion: no time is negative, no step is free."""
    cost = fit_cost((1, 0.2), (10, many_s), megapixels=1.0)
    assert cost.fixed_s == 0 and cost.step_s == pytest.approx(many_s / 10)
