"""Dice and seconds of one setting over the cases of a section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hidiff_monai.dial.subject import Case, Subject
from hidiff_monai.prediction.case import infer_in_memory
from hidiff_monai.prediction.sampler import SamplerSetting

WARM_UP = 2  # untimed runs of the first case: a CUDA graph is recorded at the second call


def measure_setting(subject: Subject, setting: SamplerSetting, advance: Callable[[], object]) -> dict[str, Any]:
    """Runs a setting over every case, the first one untimed before.

    Args:
        subject: what is measured.
        setting: how masks are drawn.
        advance: called after each case.

    Returns:
        The setting; *dice_mean* and *dice_sd* (n - 1, None of one case) over *n* cases, of the mean over the targets;
        *seconds_median*, *seconds_least* and *seconds_most* of a case's inference alone.
    """
    inferer = subject.inferer_for(setting)

    def infer(case: Case) -> tuple[float, float]:
        batch = case.image[None] if case.image.ndim == 4 else case.image[None].to(subject.device)
        maps, seconds = infer_in_memory(inferer, subject.network, batch, subject.device, case.name)
        return subject.score(maps, case), seconds

    scores, seconds = [], []
    for number, case in enumerate(subject.cases()):
        for _ in range((1 if subject.device.type == "cpu" else WARM_UP) if number == 0 else 0):
            infer(case)
        score, time = infer(case)
        scores.append(score)
        seconds.append(time)
        advance()
    return {
        **setting._asdict(),
        "dice_mean": float(np.mean(scores)),
        "dice_sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        "n": len(scores),
        "seconds_median": float(np.median(seconds)),
        "seconds_least": min(seconds),
        "seconds_most": max(seconds),
    }
