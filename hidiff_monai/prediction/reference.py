"""What is usual for a model, told by an earlier run on cases it is known on; and whether a run is unlike that one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu

from hidiff_monai.data.labels import RULES
from hidiff_monai.io import hash_file, write_atomically
from hidiff_monai.prediction.model import find_checkpoint

USUAL = 0.9  # share of the reference cases that are at most this uncertain
NAMED = ("steps", "samples", "sampler", "temperature", "flip_axes", "threshold")
SAME = ("bundle", "checkpoint_sha256", *NAMED, "overrides")
BEFORE = {"temperature": 1.0, "flip_axes": [], "overrides": {}}  # of manifests from before there was the key
FEWEST = 5
REFERENCE_FILE = "reference.json"
UNLIKE_SHARE, UNLIKE_P = 0.6, 0.01  # of pairs; one-sided


class Usual(NamedTuple):
    """What is known of a model's cases; a case beyond what nine in ten of them do not exceed looks hard.

    Attributes:
        uncertainty: nats a mask pixel; None where nothing is known.
        changed_share: of the mask, in [0, 1].
        cases: the uncertainty of each, infinite for an empty mask.
        source: where this comes from; where nothing is known, why.
    """

    uncertainty: float | None = None
    changed_share: float = 0.25
    cases: tuple[float, ...] = ()
    source: str = ""

    @property
    def word(self) -> str:
        """What the limits are to be called: without a reference nobody knows what is usual."""
        return "limit of" if self.uncertainty is None else "usual"


class Likeness(NamedTuple):
    """The uncertainty of a run's cases beside that of the reference.

    Attributes:
        is_unlike: whether the run as a whole is the more uncertain, by more than a little and p small.
        medians: nats a mask pixel, of the masks that are not empty, of run and reference.
        empty: masks that are, of run and reference.
        share: of the pairs of a case of either, in which that of the run is the more uncertain; ½ where they are alike.
        p: of the one-sided Mann-Whitney test, which takes every case as independent.
    """

    is_unlike: bool
    medians: tuple[float | None, float | None]
    empty: tuple[int, int]
    share: float
    p: float

    def describe(self) -> str | None:
        """The warning that follows; None where the run is not unlike."""
        if not self.is_unlike:
            return None
        here, there = ("none" if median is None else f"{median:.3g}" for median in self.medians)
        empty = f" {self.empty[0]} masks are empty, there {self.empty[1]}." if any(self.empty) else ""
        return (
            f"These cases as a whole are more uncertain than those of the reference: in {100 * self.share:.0f} of 100 "
            f"pairs the case from here is the more uncertain; median {here} nats a mask pixel, there {there}.{empty} "
            "They may be of a kind that the model has not learnt: what it scored elsewhere may not hold for them, and "
            "a refined mask may be worse than its prior."
        )


def read_usual(place: str | Path, facts: Mapping[str, Any]) -> Usual:
    """The limits that an earlier run tells.

    Neither has a scale of its own: thin vessels are all border, a liver hardly has one. So a case is compared with
    cases that the model is known on, validation cases for example.

    Args:
        place: the output folder of the earlier run, or the file that `publish_reference` made of it.
        facts: of this run; its `SAME` must be those of the earlier one.

    Raises:
        ValueError: if there is no such run, it had another model or other settings, or too few cases.
    """
    manifest = _read(place)
    key = _first_difference(manifest, facts)
    if key is not None:
        raise ValueError(
            f"--reference {place}: its {key} is {_settings(manifest)[key]!r}, that of this run {facts[key]!r}; "
            "expected the same model and settings: predict the reference cases anew"
        )
    return _usual_of(manifest, place, Path(str(place)).name)


def find_usual(bundle: Path, facts: Mapping[str, Any]) -> Usual:
    """What the bundle's ``docs/reference.json`` tells, where it was made by the bundle as this run has it.

    Args:
        bundle: its folder.
        facts: of this run; beside `SAME` the hash of ``inference.json`` must be that of the file.

    Raises:
        ValueError: if the file is broken.
    """
    file = bundle / "docs" / REFERENCE_FILE
    source = f"docs/{REFERENCE_FILE} of the bundle"
    if not file.is_file():
        return Usual(source="the bundle brings none")
    manifest = _read(file)
    other = _first_difference(manifest, facts)
    if other is None and manifest["bundle_sha256"][0] != facts["bundle_sha256"][0]:
        other = "bundle_sha256"
    if other is not None:
        return Usual(source=f"{source} is of another {other}")
    return _usual_of(manifest, file, source)


def publish_reference(bundle: Path, run: str | Path) -> str:
    """Writes a bundle's ``docs/reference.json``: what `find_usual` needs of a run, without names and paths.

    Args:
        bundle: its folder.
        run: the output folder of a run of this bundle, complete and with the bundle's own settings.

    Returns:
        What the file says, in a line.

    Raises:
        ValueError: if there is no such run, it is another bundle's, incomplete, has other settings or weights or too
            few cases, or the file is there already.
    """
    manifest, file = _read(run), bundle.absolute() / "docs" / REFERENCE_FILE
    given = manifest.get("given", sorted(manifest.get("overrides") or {}))
    configuration = hash_file(bundle / "configs" / "inference.json")
    weights = hash_file(find_checkpoint(bundle))
    wrong = [
        (manifest.get("bundle") != file.parents[1].name, f"is a run of the bundle {manifest.get('bundle')!r}"),
        (manifest.get("planned") != len(manifest["cases"]), "is not complete"),
        (bool(given), f"has settings of its own: {given}"),
        ("budget" in manifest, "has the settings that a budget chose"),
        (manifest.get("bundle_sha256", [None])[0] != configuration, "was made with another configs/inference.json"),
        (manifest.get("checkpoint_sha256") != weights, "was made with other weights"),
    ]
    found = [text for is_wrong, text in wrong if is_wrong]
    if found:
        raise ValueError(
            f"{run}: {found[0]}; expected a complete run of {file.parents[1].name!r} with its own settings: predict "
            "the reference cases with it"
        )
    if file.exists():
        raise ValueError(f"{file} is there already; expected none: remove it to make it anew")
    usual = _usual_of(manifest, run, "")
    made: dict[str, Any] = {key: manifest[key] for key in ("created", "hidiff_monai", "git_commit") if key in manifest}
    content = {**made, "bundle_sha256": manifest["bundle_sha256"], **_settings(manifest)}
    content["cases"] = _bare(manifest)
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return (
        f"{file}: {len(usual.cases)} cases, median {np.median(usual.cases):.3f} nats a mask pixel, nine in ten at most "
        f"{usual.uncertainty:.3f}"
    )


def compare_with_usual(uncertainties: Sequence[float | None], usual: Usual) -> Likeness | None:
    """Whether a run's cases, taken together, are more uncertain than those of the reference.

    No case may look hard where all of them come from another device or hospital; their distribution shows it.

    Args:
        uncertainties: nats a mask pixel, of all cases that are done; None, of an empty mask, counts as the largest.
        usual: of the reference.

    Returns:
        None where either has fewer than `FEWEST` cases.
    """
    if min(len(uncertainties), len(usual.cases)) < FEWEST:
        return None
    values = _numbers(uncertainties)
    test = mannwhitneyu(values, usual.cases, alternative="greater")
    share, p = float(test.statistic) / (len(values) * len(usual.cases)), float(test.pvalue)
    (here, empty_here), (there, empty_there) = map(_middle, (values, usual.cases))
    is_unlike = share >= UNLIKE_SHARE and p < UNLIKE_P
    return Likeness(is_unlike, (here, there), (empty_here, empty_there), share, p)


def _numbers(uncertainties: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.inf if value is None else float(value) for value in uncertainties)


def _middle(values: Sequence[float]) -> tuple[float | None, int]:
    """The median of the finite ones, and how many are not."""
    finite = [value for value in values if math.isfinite(value)]
    return (float(np.median(finite)) if finite else None), len(values) - len(finite)


def _read(place: str | Path) -> dict[str, Any]:
    """A manifest, or what `publish_reference` left of one, whose cases have what is asked of them here."""
    path = Path(str(place)).expanduser()
    file = path if path.is_file() else path / "manifest.json"
    try:
        manifest = dict(json.loads(file.read_text(encoding="utf-8")))
        for case in _done(manifest):
            _ = case["uncertainty"], case["verdict"]["changed_share"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{place}: no manifest.json of an earlier run ({type(error).__name__}); expected the output folder of "
            f"`hidiff predict` on cases the model is known on, or a {REFERENCE_FILE}: make it first"
        ) from error
    return manifest


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: manifest.get(key, BEFORE.get(key)) for key in SAME}
    overrides = settings["overrides"] or {}
    return {**settings, "overrides": {key: value for key, value in overrides.items() if key not in RULES}}


def _first_difference(manifest: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """The first of `SAME` in which a run is not as this one."""
    theirs = _settings(manifest)
    return next((key for key in SAME if theirs[key] != facts[key]), None)


def _done(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [case for case in manifest["cases"] if case["status"] == "done"]


def _bare(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cases, most certain first, as numbers alone."""
    cases = [(case["uncertainty"], case["verdict"]["changed_share"]) for case in _done(manifest)]
    cases.sort(key=lambda case: _numbers(case[:1]))
    return [
        {
            "status": "done",
            "uncertainty": None if uncertainty is None else round(uncertainty, 5),
            "verdict": {"changed_share": None if changed is None else round(changed, 5)},
        }
        for uncertainty, changed in cases
    ]


def _usual_of(manifest: Mapping[str, Any], place: str | Path, source: str) -> Usual:
    """The limits are those of the cases with a mask."""
    done = _done(manifest)
    found = [case for case in done if case["uncertainty"] is not None]
    if len(found) < FEWEST:
        raise ValueError(
            f"{place}: {len(found)} cases with a mask; expected {FEWEST} or more: predict more reference cases"
        )
    uncertainty = np.quantile([case["uncertainty"] for case in found], USUAL)
    changed = np.quantile([case["verdict"]["changed_share"] for case in found], USUAL)
    return Usual(float(uncertainty), float(changed), _numbers([case["uncertainty"] for case in done]), source)
