"""What `hidiff dial` wrote: the Dice of each setting of the sampler, for one checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hidiff_monai.prediction.budget import Candidate
from hidiff_monai.prediction.sampler import SamplerSetting

DIAL_FILE, DIAL_PICTURE = "dial.json", "dial.png"


def read_dial(file: Path, checkpoint_sha256: str, samples: int, max_steps: int) -> list[Candidate]:
    """The settings that a prediction can take, with their Dice.

    Hard decisions get the chains for the uncertainty that the prediction adds. One hard step is always among them, as
    the cheapest there is, without a Dice where it was not measured; the prior alone is not: a prediction refines.

    Args:
        file: `dial.json`.
        checkpoint_sha256: of the weights that predict.
        samples: chains behind the uncertainty where the mask is a hard decision.
        max_steps: T of the network.

    Raises:
        ValueError: if it is missing or broken, or was measured with other weights.
    """
    content = _read(file)
    if content.get("checkpoint_sha256") != checkpoint_sha256:
        theirs = str(content.get("checkpoint_sha256"))[:12]
        raise ValueError(
            f"{file}: was measured with weights of SHA-256 {theirs}..., those of this run have "
            f"{checkpoint_sha256[:12]}...; expected the same: run `hidiff dial <bundle> <data set> --checkpoint <file> "
            "--output <folder>`, and give --dial <folder>"
        )
    try:
        known = {SamplerSetting.from_dict(row): float(row["dice_mean"]) for row in content["settings"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {type(error).__name__} in its settings; {_MEND}") from error
    first = SamplerSetting("hard", 1)
    known.setdefault(first, math.nan)
    return [
        Candidate(setting._replace(samples=samples) if setting.sampler == "hard" else setting, dice)
        for setting, dice in known.items()
        if not setting.is_prior and setting.steps <= max_steps
    ]


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
    return content
