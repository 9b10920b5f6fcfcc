"""The choice as a table: what fits, what ties, what does not fit."""

from __future__ import annotations

import math
from itertools import product

import pytest

from hidiff_monai.prediction.budget import LEAST_TIE, Candidate, Cost, choose_setting, fit_cost, tie_width
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
        ((0.80, 0.81, 0.82, 0.83), 1.0, 0.05, ONE, 0.11, False),  # nothing fits: one hard step
        ((0.80, 0.8004, 0.8002, 0.80), 1.0, 1.00, ONE, 0.11, True),  # ties: the cheapest
        ((0.80, 0.81, 0.8104, 0.8106), 1.0, 1.00, TEN, 0.20, True),  # 0.0006 short of the best is no tie
        ((0.83, 0.82, 0.81, 0.80), 1.0, 1.00, ONE, 0.11, True),  # more steps that make it worse
        ((math.nan, 0.70, 0.60, 0.50), 1.0, 1.00, TWO, 0.12, True),  # what nobody measured comes last
        ((math.nan, 0.70, 0.60, 0.50), 1.0, 0.115, ONE, 0.11, True),  # unless nothing else fits
        ((0.80, 0.90, 0.90, 0.90), 1.0, 0.10, ONE, 0.11, False),  # not the best
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
        assert choice.dice == pytest.approx(dice[(ONE, TWO, TEN, MEAN).index(chosen)], nan_ok=True)


def test_the_line_goes_through_both_measurements() -> None:
    cost = fit_cost((1, 0.22), (10, 0.40), megapixels=2.0)
    assert cost == pytest.approx(Cost(0.1, 0.01))
    assert cost.seconds(ONE, 2.0) == pytest.approx(0.22) and cost.seconds(TEN, 2.0) == pytest.approx(0.40)


@pytest.mark.parametrize(
    ("few_s", "many_s", "expected"),
    [
        (0.2, 0.199, Cost(0.2, 0.0)),  # faster with more steps: nothing is known of a step
        (0.2, 0.2, Cost(0.2, 0.0)),
        (0.2, 3.0, Cost(0.0, 0.3)),  # slower than in proportion: nothing is known of the rest
    ],
)
def test_a_disturbed_clock(few_s: float, many_s: float, expected: Cost) -> None:
    assert fit_cost((1, few_s), (10, many_s), megapixels=1.0) == pytest.approx(expected)


def test_no_estimate_is_below_what_was_measured() -> None:
    numbers = [0.001, 0.02, 0.199, 0.2, 0.201, 2.0, 3.0]
    for few_s, many_s, few, many in product(numbers, numbers, (1, 2), (5, 10)):
        cost = fit_cost((few, few_s), (many, many_s), megapixels=2.0)
        assert cost.fixed_s >= 0 and cost.step_s >= 0
        short, long, longer = (cost.seconds(SamplerSetting("hard", steps), 2.0) for steps in (few, many, 50))
        assert short >= few_s - 1e-12 and long >= many_s - 1e-12 and longer >= max(few_s, many_s) - 1e-12


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ((SamplerSetting("ddim", 5, 1), SamplerSetting("hard", 1, 16)), 1),  # 5 chain steps against 17
        ((SamplerSetting("ddim", 5, 1), SamplerSetting("hard", 1, 4)), 1),  # as many
        ((SamplerSetting("hard", 2, 16), SamplerSetting("ddim", 5, 1)), 1),  # without it, the fewest chain steps
    ],
)
def test_where_nothing_fits_it_is_one_hard_step(settings: tuple[SamplerSetting, ...], chosen: int) -> None:
    candidates = [Candidate(setting, 0.8) for setting in settings]
    for order in (candidates, candidates[::-1]):
        choice = choose_setting(order, COST, megapixels=1.0, budget_s=0.01)
        assert (choice.setting, choice.fits) == (settings[chosen], False)


@pytest.mark.parametrize(
    ("hard", "ddim", "ddpm", "chosen"),
    [
        (0.8, 0.8004, 0.8, "hard"),  # a tie: what draws nothing at random
        (0.8, 0.82, 0.8201, "ddpm"),
        (0.8, 0.82, 0.8199, "ddim"),
        (math.nan, 0.5, 0.4, "ddim"),
    ],
)
def test_of_equally_cheap_ones_hard_decisions_and_the_better_dice_are_taken(
    hard: float, ddim: float, ddpm: float, chosen: str
) -> None:
    """Five chain steps each."""
    settings = (SamplerSetting("hard", 1, 4), SamplerSetting("ddim", 5, 1), SamplerSetting("ddpm", 5, 1))
    candidates = [Candidate(setting, dice) for setting, dice in zip(settings, (hard, ddim, ddpm), strict=True)]
    for order in (candidates, candidates[::-1]):
        assert choose_setting(order, COST, megapixels=1.0, budget_s=1.0).setting.sampler == chosen


BEST = {"a": 0.90, "b": 0.80, "c": 0.70}


@pytest.mark.parametrize(
    ("cases", "width"),
    [
        ({"a": 0.90, "b": 0.80, "c": 0.70}, LEAST_TIE),  # equal
        ({"a": 0.88, "b": 0.78, "c": 0.68}, LEAST_TIE),  # 0.02 worse in each: sure of it, though cases differ much
        ({"a": 0.87, "b": 0.80, "c": 0.70}, 0.01),  # differences 0.03, 0, 0: sd 0.03 / sqrt 3, over sqrt 3
        ({"c": 0.70, "b": 0.80, "a": 0.87}, 0.01),  # paired by name, not by place
        ({"a": 0.87, "b": 0.80}, LEAST_TIE),  # not the same cases
        (None, LEAST_TIE),
    ],
)
def test_a_tie_is_a_standard_error_of_paired_differences(cases: dict[str, float] | None, width: float) -> None:
    best = Candidate(TEN, 0.80, BEST)
    assert tie_width(Candidate(ONE, 0.79, cases), best) == pytest.approx(width)
    assert tie_width(best, Candidate(ONE, 0.79, cases)) == pytest.approx(width)
    assert tie_width(Candidate(ONE, 0.9, {"a": 0.5}), Candidate(TEN, 0.9, {"a": 0.9})) == LEAST_TIE  # one case


@pytest.mark.parametrize(
    ("one", "two", "chosen"),
    [
        ((0.87, 0.81, 0.70), (0.90, 0.80, 0.70), ONE),  # 0.0067 worse, standard error 0.0120: a tie
        ((0.88, 0.78, 0.68), (0.87, 0.81, 0.70), TWO),  # 0.02 worse in every case; the other is a tie
        ((0.88, 0.78, 0.68), (0.885, 0.785, 0.685), TEN),  # both worse in every case
        ((0.93, 0.80, 0.70), (0.90, 0.80, 0.70), ONE),  # the best itself
    ],
)
def test_the_cheapest_within_a_standard_error_is_taken(
    one: tuple[float, ...], two: tuple[float, ...], chosen: SamplerSetting
) -> None:
    by_case = {ONE: one, TWO: two, TEN: tuple(BEST.values())}
    candidates = [Candidate(key, sum(dice) / 3, dict(zip(BEST, dice, strict=True))) for key, dice in by_case.items()]
    for order in (candidates, candidates[::-1]):
        assert choose_setting(order, COST, megapixels=1.0, budget_s=1.0).setting == chosen
