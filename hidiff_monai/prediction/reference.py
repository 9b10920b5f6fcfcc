"""What is usual for a model: told by an earlier run on cases it is known on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

USUAL = 0.9  # share of the reference cases that are at most this uncertain
SAME = ("bundle", "checkpoint_sha256", "steps", "samples", "sampler", "temperature", "flip_axes", "threshold")
BEFORE = {"temperature": 1.0, "flip_axes": []}  # what manifests mean that were written before a key was there
FEWEST = 5


class Usual(NamedTuple):
    """What nine in ten cases do not exceed; a case beyond it looks hard.

    Attributes:
        uncertainty: nats a mask pixel; None where nothing is known.
        changed_share: of the mask, in [0, 1].
    """

    uncertainty: float | None = None
    changed_share: float = 0.25

    @property
    def word(self) -> str:
        """What the limits are to be called: without a reference nobody knows what is usual."""
        return "limit of" if self.uncertainty is None else "usual"


def read_usual(folder: str | Path, facts: Mapping[str, Any]) -> Usual:
    """The limits that an earlier run tells.

    Neither has a scale of its own: thin vessels are all border, a liver hardly has one. So a case is compared with
    cases that the model is known on, validation cases for example.

    Args:
        folder: the output folder of the earlier run.
        facts: of this run; its `SAME` must be those of the earlier one.

    Raises:
        ValueError: if there is no such run, it had another model or other settings, or too few cases.
    """
    file = Path(folder) / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        done = [case for case in manifest["cases"] if case["status"] == "done" and case["uncertainty"] is not None]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--reference {folder}: no manifest.json of an earlier run ({type(error).__name__}); expected the output "
            "folder of `hidiff predict` on cases the model is known on: make it first"
        ) from error
    theirs = {key: manifest.get(key, BEFORE.get(key)) for key in SAME}
    other = [key for key in SAME if theirs[key] != facts[key]]
    if other:
        key = other[0]
        raise ValueError(
            f"--reference {folder}: its {key} is {theirs[key]!r}, that of this run {facts[key]!r}; expected the "
            "same model and settings: predict the reference cases anew"
        )
    if len(done) < FEWEST:
        raise ValueError(f"--reference {folder}: {len(done)} cases with a mask; expected {FEWEST} or more")
    uncertainty = np.quantile([case["uncertainty"] for case in done], USUAL)
    return Usual(float(uncertainty), float(np.quantile([case["verdict"]["changed_share"] for case in done], USUAL)))
