"""The settings of the sampler that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hidiff_monai.prediction.sampler import SamplerSetting

PRIOR = SamplerSetting("prior", 0, 1)
HARD_STEPS = (1, 2, 3, 5, 10)
CHAIN_STEPS = (5, 10)
SAMPLES = (1, 4, 16)
ROW_ORDER = ("hard", "ddim", "ddpm")  # the scheduler's samplers as the tables have them
DEFAULT_SAMPLERS = ROW_ORDER[:2]


def make_grid(
    max_steps: int,
    steps: Sequence[int] | None = None,
    samples: Sequence[int] | None = None,
    samplers: Sequence[str] | None = None,
) -> list[SamplerSetting]:
    """The prior alone; hard decisions; means of drawn chains, which need more steps: below 5, T of them.

    Args:
        max_steps: T of the network; what has more steps is left out.
        steps: the only ones to measure, of `HARD_STEPS`; None for all.
        samples: the only numbers of drawn chains, of `SAMPLES`; None for all.
        samplers: the only ones, of `ROW_ORDER`; None for `DEFAULT_SAMPLERS`.

    Raises:
        ValueError: if a number or a sampler is none of the grid's.
    """
    _require_known("steps", steps, HARD_STEPS)
    _require_known("samples", samples, SAMPLES)
    _require_known("samplers", samplers, ROW_ORDER)
    hard = [number for number in HARD_STEPS if number <= max_steps]
    drawn = [number for number in CHAIN_STEPS if number <= max_steps] or [max_steps]
    chains = [number for number in SAMPLES if samples is None or number in samples]
    chosen = [sampler for sampler in ROW_ORDER if sampler in (samplers or DEFAULT_SAMPLERS)]
    return [
        PRIOR,
        *(
            SamplerSetting(sampler, number, count)
            for sampler in chosen
            for number in (hard if sampler == "hard" else drawn)
            for count in ([1] if sampler == "hard" else chains)
            if steps is None or number in steps
        ),
    ]


def _require_known(name: str, values: Sequence[Any] | None, known: Sequence[Any]) -> None:
    unknown = [value for value in values or [] if value not in known or isinstance(value, bool)]
    if unknown or (values is not None and not values):
        raise ValueError(f"--{name} {unknown or 'is empty'}; expected some of {list(known)}, or leave it out")
