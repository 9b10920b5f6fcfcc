"""The settings of the sampler that are measured."""

from __future__ import annotations

from collections.abc import Sequence

from hidiff_monai.prediction.sampler import SamplerSetting

PRIOR = SamplerSetting("prior", 0, 1)
HARD_STEPS = (1, 2, 3, 5, 10)
DDIM_STEPS = (5, 10)
SAMPLES = (1, 4, 16)


def make_grid(
    max_steps: int, steps: Sequence[int] | None = None, samples: Sequence[int] | None = None
) -> list[SamplerSetting]:
    """The prior alone; hard decisions; means of DDIM chains, which need more steps: below 5, T of them.

    Args:
        max_steps: T of the network; what has more steps is left out.
        steps: the only ones to measure, of `HARD_STEPS`; None for all.
        samples: the only numbers of DDIM chains, of `SAMPLES`; None for all.

    Raises:
        ValueError: if a number is none of the grid's.
    """
    _require_known("steps", steps, HARD_STEPS)
    _require_known("samples", samples, SAMPLES)
    hard = [number for number in HARD_STEPS if number <= max_steps]
    ddim = [number for number in DDIM_STEPS if number <= max_steps] or [max_steps]
    return [
        PRIOR,
        *(SamplerSetting("hard", number) for number in hard if steps is None or number in steps),
        *(
            SamplerSetting("ddim", number, chains)
            for number in ddim
            for chains in SAMPLES
            if (steps is None or number in steps) and (samples is None or chains in samples)
        ),
    ]


def _require_known(name: str, numbers: Sequence[int] | None, known: Sequence[int]) -> None:
    unknown = [number for number in numbers or [] if number not in known or isinstance(number, bool)]
    if unknown or (numbers is not None and not numbers):
        raise ValueError(f"--{name} {unknown or 'is empty'}; expected some of {list(known)}: leave it out for all")
