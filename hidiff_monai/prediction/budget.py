"""Which setting of the sampler is best within a time: its Dice is known from `hidiff dial`, its time is estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import NamedTuple

from hidiff_monai.prediction.sampler import SamplerSetting

LEAST_TIE = 0.0005  # in Dice; what is that close is taken for equal


class Candidate(NamedTuple):
    """A setting that could be run.

    Attributes:
        setting: with the chains for the uncertainty that a prediction adds.
        dice: its mean Dice in [0, 1]; NaN where nobody has measured it.
        dice_cases: Dice of each case that the mean is of; None where they are not known.
    """

    setting: SamplerSetting
    dice: float
    dice_cases: Mapping[str, float] | None = None


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

    Where a disturbed clock makes that line fall or start below zero, it is moved up until neither part of the cost is
    negative; no estimate is then below what was measured for as many steps:

    - the longer one was not slower: a step costs nothing, all else the larger of both times;
    - it was slower than in proportion: the line through zero and the longer one, above the shorter one.

    Args:
        few: chain steps and seconds of the shorter one.
        many: of the longer one.
        megapixels: of the image that was timed.
    """
    step_s = (many[1] - few[1]) / (many[0] - few[0])
    fixed_s = few[1] - step_s * few[0]
    if step_s <= 0:
        step_s, fixed_s = 0.0, max(few[1], many[1])
    elif fixed_s < 0:
        step_s, fixed_s = many[1] / many[0], 0.0
    return Cost(fixed_s / megapixels, step_s / megapixels)


def choose_setting(candidates: Sequence[Candidate], cost: Cost, megapixels: float, budget_s: float) -> Choice:
    """The best Dice among what fits; of those that cannot be told from it, see `tie_width`, the cheapest.

    Of equally cheap ones hard decisions, which draw nothing at random, then the better Dice. Where nothing fits, one
    hard step, whatever else the candidates are.

    Args:
        candidates: at least one, of which those without a Dice come last; one hard step should be among them, as
            `read_dial` sees to: without it, the one of the fewest chain steps is taken where nothing fits.
        cost: of this machine.
        megapixels: of the case, see `network_megapixels`.
        budget_s: seconds of inference.
    """
    seconds = {candidate.setting: cost.seconds(candidate.setting, megapixels) for candidate in candidates}
    fitting = [candidate for candidate in candidates if seconds[candidate.setting] <= budget_s]
    if fitting:
        best = min(fitting, key=lambda candidate: (-_known(candidate), *_cheapest_first(candidate)))
        least = {candidate.setting: _known(best) - tie_width(candidate, best) for candidate in fitting}
        chosen = min((item for item in fitting if _known(item) >= least[item.setting]), key=_cheapest_first)
    else:
        chosen = min(candidates, key=lambda candidate: (not _is_one_hard_step(candidate), *_cheapest_first(candidate)))
    return Choice(chosen.setting, chosen.dice, seconds[chosen.setting], bool(fitting))


def tie_width(candidate: Candidate, best: Candidate) -> float:
    """How far a mean Dice may be below the best and still count as equal.

    The standard error of the paired differences over the cases (the one-standard-error rule: Breiman et al., 1984), at
    least `LEAST_TIE`; that alone where the cases are not known, not the same, or fewer than two.

    Args:
        candidate: what is compared.
        best: what it is compared with.
    """
    ours, theirs = candidate.dice_cases or {}, best.dice_cases or {}
    if ours.keys() != theirs.keys() or len(ours) < 2:
        return LEAST_TIE
    differences = [theirs[name] - ours[name] for name in ours]
    return max(LEAST_TIE, stdev(differences) / math.sqrt(len(differences)))


def _cheapest_first(candidate: Candidate) -> tuple[int, bool, float, SamplerSetting]:
    """An order in which no two settings are equal, so that the order of a file decides nothing."""
    return candidate.setting.chain_steps, candidate.setting.sampler != "hard", -_known(candidate), candidate.setting


def _is_one_hard_step(candidate: Candidate) -> bool:
    return candidate.setting.sampler == "hard" and candidate.setting.steps == 1


def _known(candidate: Candidate) -> float:
    return -math.inf if math.isnan(candidate.dice) else candidate.dice
