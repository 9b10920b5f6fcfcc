"""Dice and seconds of one setting over the cases of a section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hidiff_monai.dial.subject import Case, Subject
from hidiff_monai.prediction.case import infer_in_memory
from hidiff_monai.prediction.sampler import SamplerSetting
from hidiff_monai.prediction.timing import WARM_UP


def measure_setting(subject: Subject, setting: SamplerSetting, advance: Callable[[], object]) -> dict[str, Any]:
    """Runs a setting over every case; untimed before, the first one, and on an accelerator each of a new shape.

    Args:
        subject: what is measured.
        setting: how masks are drawn.
        advance: called after each case.

    Returns:
        The setting; *dice_mean* and *dice_sd* (n - 1, None of one case) over *n* cases, of the mean over the targets,
        which *dice_cases* tells by the case's id, to six digits;
        *seconds_median*, *seconds_least* and *seconds_most* of a case's inference alone.
    """
    inferer = subject.inferer_for(setting)

    def infer(case: Case) -> tuple[float, float]:
        batch = case.image[None] if case.image.ndim == 4 else case.image[None].to(subject.device)
        maps, seconds = infer_in_memory(inferer, subject.network, batch, subject.device, case.name)
        return subject.score(maps, case), seconds

    by_case: dict[str, float] = {}
    seconds: list[float] = []
    shapes: set[tuple[int, ...]] = set()
    for case in subject.cases():
        for _ in range(_untimed(subject.device, shapes, tuple(case.image.shape))):
            infer(case)
        shapes.add(tuple(case.image.shape))
        by_case[case.name], time = infer(case)
        seconds.append(time)
        advance()
    scores = [*by_case.values()]
    return {
        **setting._asdict(),
        "dice_mean": float(np.mean(scores)),
        "dice_sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        "dice_cases": {name: round(score, 6) for name, score in by_case.items()},
        "n": len(scores),
        "seconds_median": float(np.median(seconds)),
        "seconds_least": min(seconds),
        "seconds_most": max(seconds),
    }


def _untimed(device: torch.device, seen: set[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """Passes before the one that counts: an accelerator chooses its kernels and records its graphs by shape."""
    if device.type == "cpu":
        return 0 if seen else 1
    return 0 if shape in seen else WARM_UP
