"""What `hidiff dial` wrote: the Dice of each setting of the sampler, for one checkpoint."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

from hidiff_monai.prediction.budget import Candidate
from hidiff_monai.prediction.sampler import SamplerSetting

DIAL_FILE, DIAL_PICTURE = "dial.json", "dial.png"
BEFORE: dict[str, Any] = {"flip_axes": []}  # what files mean that were written before a key was there

logger = logging.getLogger(__name__)


class Dial(NamedTuple):
    """What a prediction takes from the file.

    Attributes:
        candidates: the settings that it can run.
        section: of the datalist, whose cases were scored; None where the file does not say.
    """

    candidates: list[Candidate]
    section: str | None


def read_dial(file: Path, checkpoint_sha256: str, samples: int, max_steps: int, flip_axes: list[int]) -> Dial:
    """The settings that a prediction can take, with their Dice; a warning where test cases or other flips tell it.

    Hard decisions get the chains for the uncertainty that the prediction adds. One hard step is always among them, for
    when nothing fits, without a Dice where it was not measured; the prior alone is not: a prediction refines.

    Args:
        file: `dial.json`.
        checkpoint_sha256: of the weights that predict.
        samples: chains behind the uncertainty where the mask is a hard decision.
        max_steps: T of the network.
        flip_axes: of the prediction.

    Raises:
        ValueError: if it is missing or broken, or was measured with other weights or on training cases.
    """
    content = _read(file)
    if content.get("checkpoint_sha256") != checkpoint_sha256:
        theirs = str(content.get("checkpoint_sha256"))[:12]
        raise ValueError(
            f"{file}: was measured with weights of SHA-256 {theirs}..., those of this run have "
            f"{checkpoint_sha256[:12]}...; expected the same: run `hidiff dial <bundle> <data set> --checkpoint <file> "
            "--output <folder>`, and give --dial <folder>"
        )
    section = content.get("section")
    _require_unseen(file, section)
    theirs = content["flip_axes"]
    if theirs != flip_axes:
        logger.warning(
            "%s was measured with flip_axes %s, this run has %s: its Dice is that of other masks",
            file,
            theirs,
            flip_axes,
        )
    try:
        measured = [_read_row(row) for row in content["settings"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: {type(error).__name__} in its settings; {_MEND}") from error
    first = SamplerSetting("hard", 1)
    measured += [] if any(candidate.setting == first for candidate in measured) else [Candidate(first, math.nan)]
    candidates = [
        candidate._replace(setting=candidate.setting._replace(samples=samples))
        if candidate.setting.sampler == "hard"
        else candidate
        for candidate in measured
        if not candidate.setting.is_prior and candidate.setting.steps <= max_steps
    ]
    return Dial(candidates, None if section is None else str(section))


def _read_row(row: dict[str, Any]) -> Candidate:
    """A setting as it was measured; rows of earlier versions do not tell the cases."""
    cases = row.get("dice_cases")
    by_case = None if cases is None else {str(name): float(dice) for name, dice in cases.items()}
    return Candidate(SamplerSetting.from_dict(row), float(row["dice_mean"]), by_case)


def _require_unseen(file: Path, section: Any) -> None:
    """What a setting is worth on cases that the weights were fitted to says nothing of others."""
    if section == "training":
        raise ValueError(
            f"{file}: was measured on section 'training', which the weights were fitted to; expected 'validation': run "
            "`hidiff dial <bundle> <data set>` without --section"
        )
    if section == "test":
        logger.warning("%s was measured on section 'test': a setting chosen by it is not tested there any more", file)


_MEND = "expected what `hidiff dial <bundle> <data set>` writes: run it"


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(
            f"{file} is missing: nobody has measured what a setting is worth; {_MEND}, or leave out --budget-ms"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON ({error}); {_MEND}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}; {_MEND}")
    return {**BEFORE, **content}
