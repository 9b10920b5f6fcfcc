"""What is usual for a model, told by an earlier run on cases it is known on; and whether a run is unlike that one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu

from hidiff_monai.io import write_atomically

USUAL = 0.9  # share of the reference cases that are at most this uncertain
SAME = ("bundle", "checkpoint_sha256", "steps", "samples", "sampler", "temperature", "flip_axes", "threshold")
BEFORE = {"temperature": 1.0, "flip_axes": []}  # what manifests mean that were written before a key was there
FEWEST = 5
USUAL_FILE = "usual.json"
UNLIKE_SHARE, UNLIKE_P = 0.6, 0.01  # of pairs; one-sided


class Usual(NamedTuple):
    """What is known of a model's cases; a case beyond what nine in ten of them do not exceed looks hard.

    Attributes:
        uncertainty: nats a mask pixel; None where nothing is known.
        changed_share: of the mask, in [0, 1].
        cases: the uncertainty of each.
    """

    uncertainty: float | None = None
    changed_share: float = 0.25
    cases: tuple[float, ...] = ()

    @property
    def word(self) -> str:
        """What the limits are to be called: without a reference nobody knows what is usual."""
        return "limit of" if self.uncertainty is None else "usual"


class Likeness(NamedTuple):
    """The uncertainty of a run's cases beside that of the reference.

    Attributes:
        is_unlike: whether the run as a whole is the more uncertain, beyond chance and by more than a little.
        median: nats a mask pixel, of the run.
        usual_median: of the reference.
        share: of the pairs of a case of either, in which that of the run is the more uncertain; ½ where they are alike.
        p: of the one-sided Mann-Whitney test.
    """

    is_unlike: bool
    median: float
    usual_median: float
    share: float
    p: float

    def describe(self) -> str | None:
        """The warning that follows; None where the run is not unlike."""
        if not self.is_unlike:
            return None
        return (
            f"These cases as a whole are more uncertain than those the model is known on: median {self.median:.3g} "
            f"nats a mask pixel, there {self.usual_median:.3g}; in {100 * self.share:.0f} of 100 pairs the case from "
            "here is the more uncertain. They may be of a kind that the model has not learnt: its published figures "
            "do not hold for them, and a refined mask may be worse than its prior."
        )


def read_usual(place: str | Path, facts: Mapping[str, Any]) -> Usual:
    """The limits that an earlier run tells.

    Neither has a scale of its own: thin vessels are all border, a liver hardly has one. So a case is compared with
    cases that the model is known on, validation cases for example.

    Args:
        place: the output folder of the earlier run, or the file that `publish_usual` made of it.
        facts: of this run; its `SAME` must be those of the earlier one.

    Raises:
        ValueError: if there is no such run, it had another model or other settings, or too few cases.
    """
    manifest = _read(place)
    theirs = _settings(manifest)
    other = [key for key in SAME if theirs[key] != facts[key]]
    if other:
        key = other[0]
        raise ValueError(
            f"--reference {place}: its {key} is {theirs[key]!r}, that of this run {facts[key]!r}; expected the "
            "same model and settings: predict the reference cases anew"
        )
    done = _known(manifest, place)
    uncertainty = [float(case["uncertainty"]) for case in done]
    changed = [case["verdict"]["changed_share"] for case in done]
    return Usual(float(np.quantile(uncertainty, USUAL)), float(np.quantile(changed, USUAL)), tuple(uncertainty))


def find_usual(bundle: Path, facts: Mapping[str, Any]) -> Usual:
    """What the bundle's ``docs/usual.json`` tells, if it is there and was made by the same weights and settings."""
    file = bundle / "docs" / USUAL_FILE
    if not file.is_file() or any(_settings(_read(file))[key] != facts[key] for key in SAME):
        return Usual()
    return read_usual(file, facts)


def publish_usual(run: str | Path, bundle: Path) -> str:
    """Writes a bundle's ``docs/usual.json``: what `read_usual` needs of a run, without names and paths.

    Args:
        run: the output folder of a run of this bundle.
        bundle: its folder.

    Returns:
        What the file says, in a line.

    Raises:
        ValueError: if there is no such run, it is another bundle's or has too few cases, or the file is there already.
    """
    manifest, file = _read(run), bundle / "docs" / USUAL_FILE
    if manifest.get("bundle") != bundle.name:
        raise ValueError(
            f"{run}: is a run of the bundle {manifest.get('bundle')!r}; expected one of {bundle.name!r}: name another"
        )
    if file.exists():
        raise ValueError(f"{file} is there already; expected none: remove it to make it anew")
    known = sorted(_known(manifest, run), key=lambda case: float(case["uncertainty"]))
    cases = [
        {
            "status": "done",
            "uncertainty": round(case["uncertainty"], 5),
            "verdict": {"changed_share": round(case["verdict"]["changed_share"], 5)},
        }
        for case in known
    ]
    made = {key: manifest[key] for key in ("created", "hidiff_monai", "git_commit") if key in manifest}
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps({**made, **_settings(manifest), "cases": cases}, indent=1) + "\n", "utf-8")
    values = [case["uncertainty"] for case in cases]
    return (
        f"{file}: {len(cases)} cases, median {np.median(values):.3f} nats a mask pixel, nine in ten at most "
        f"{np.quantile(values, USUAL):.3f}"
    )


def compare_with_usual(uncertainties: Sequence[float], usual: Usual) -> Likeness | None:
    """Whether a run's cases, taken together, are more uncertain than those of the reference.

    No case may look hard where all of them come from another device or hospital; their distribution shows it.

    Args:
        uncertainties: nats a mask pixel, of the cases whose mask is not empty.
        usual: of the reference.

    Returns:
        None where either has fewer than `FEWEST` cases.
    """
    if min(len(uncertainties), len(usual.cases)) < FEWEST:
        return None
    test = mannwhitneyu(uncertainties, usual.cases, alternative="greater")
    share = float(test.statistic) / (len(uncertainties) * len(usual.cases))
    is_unlike = share >= UNLIKE_SHARE and test.pvalue < UNLIKE_P
    median, usual_median = (float(np.median(values)) for values in (uncertainties, usual.cases))
    return Likeness(bool(is_unlike), median, usual_median, share, float(test.pvalue))


def _read(place: str | Path) -> dict[str, Any]:
    path = Path(str(place)).expanduser()
    file = path if path.is_file() else path / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not all(case["status"] == "failed" or "changed_share" in case["verdict"] for case in manifest["cases"]):
            raise KeyError("changed_share")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{place}: no manifest.json of an earlier run ({type(error).__name__}); expected the output "
            f"folder of `hidiff predict` on cases the model is known on, or a {USUAL_FILE}: make it first"
        ) from error
    return dict(manifest)


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: manifest.get(key, BEFORE.get(key)) for key in SAME}


def _known(manifest: Mapping[str, Any], place: str | Path) -> list[dict[str, Any]]:
    """Its cases with a mask."""
    done = [case for case in manifest["cases"] if case["status"] == "done" and case["uncertainty"] is not None]
    if len(done) < FEWEST:
        raise ValueError(f"{place}: {len(done)} cases with a mask; expected {FEWEST} or more")
    return done
