"""Which setting of the sampler is best within a time: its Dice is known from `hidiff dial`, its time is estimated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from hidiff_monai.prediction.sampler import SamplerSetting

TIE = 0.0005  # in Dice; what is that close is taken for equal


class Candidate(NamedTuple):
    """A setting that could be run.

    Attributes:
        setting: with the chains for the uncertainty that a prediction adds.
        dice: its mean Dice in [0, 1]; NaN where nobody has measured it.
    """

    setting: SamplerSetting
    dice: float


class Cost(NamedTuple):
    """Seconds of inference = (fixed_s + step_s * chain steps) * megapixels that the network sees.

    Attributes:
        fixed_s: a, seconds a megapixel of everything but the refiner's steps.
        step_s: b, seconds a megapixel of one step of one chain.
    """

    fixed_s: float
    step_s: float

    def seconds(self, setting: SamplerSetting, megapixels: float) -> float:
        """The estimate for a case.

        Args:
            setting: as it is run.
            megapixels: of `network_megapixels`.
        """
        return (self.fixed_s + self.step_s * setting.chain_steps) * megapixels


class Choice(NamedTuple):
    """What was chosen, and why it can be expected to keep the budget.

    Attributes:
        setting: to run.
        dice: as in `Candidate`.
        seconds: estimated for the case.
        fits: whether that is within the budget.
    """

    setting: SamplerSetting
    dice: float
    seconds: float
    fits: bool


def fit_cost(few: tuple[int, float], many: tuple[int, float], megapixels: float) -> Cost:
    """The line through two measurements, of 1 or more chain steps each.

    Where the longer one was not slower, which only a disturbed clock can say, all its time is laid on the steps: that
    promises too little rather than too much.

    Args:
        few: chain steps and seconds of the shorter one.
        many: of the longer one.
        megapixels: of the image that was timed.
    """
    step_s = (many[1] - few[1]) / (many[0] - few[0])
    fixed_s = few[1] - step_s * few[0]
    if step_s <= 0 or fixed_s < 0:
        step_s, fixed_s = many[1] / many[0], 0.0
    return Cost(fixed_s / megapixels, step_s / megapixels)


def choose_setting(candidates: Sequence[Candidate], cost: Cost, megapixels: float, budget_s: float) -> Choice:
    """The best Dice among what fits; of those within `TIE` of it, the cheapest. Where nothing fits, the cheapest.

    Args:
        candidates: at least one; those without a Dice come last.
        cost: of this machine.
        megapixels: of the case, see `network_megapixels`.
        budget_s: seconds of inference.
    """
    seconds = {candidate: cost.seconds(candidate.setting, megapixels) for candidate in candidates}
    fitting = [candidate for candidate in candidates if seconds[candidate] <= budget_s]
    best = max((_known(candidate) for candidate in fitting), default=math.nan)
    pool = [candidate for candidate in fitting if _known(candidate) >= best - TIE] or candidates
    chosen = min(pool, key=lambda candidate: candidate.setting.chain_steps)
    return Choice(chosen.setting, chosen.dice, seconds[chosen], bool(fitting))


def _known(candidate: Candidate) -> float:
    return -math.inf if math.isnan(candidate.dice) else candidate.dice
