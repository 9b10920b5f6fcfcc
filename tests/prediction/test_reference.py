"""What an earlier run says is usual, and which run may say it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.prediction.reference import Usual, compare_with_usual, find_usual, publish_usual, read_usual

FACTS: dict[str, Any] = {
    "bundle": "drive",
    "checkpoint_sha256": "ab",
    "steps": 1,
    "samples": 4,
    "sampler": "hard",
    "temperature": 1.0,
    "flip_axes": [],
    "threshold": 0.5,
}


def write(folder: Path, cases: int = 11, **changed: Any) -> Path:
    """The manifest of a run whose cases have 0.00, 0.01, ... nats, and changes of twice as much; None for a key that
    is not there."""
    told = [
        {"status": "done", "uncertainty": number / 100, "verdict": {"changed_share": number / 50}}
        for number in range(cases)
    ]
    unknown = [{"status": "failed"}, {"status": "done", "uncertainty": None, "verdict": {"changed_share": None}}]
    content = {key: value for key, value in {**FACTS, **changed}.items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps({**content, "cases": told + unknown}))
    return folder


def test_nine_in_ten_cases_are_usual(tmp_path: Path) -> None:
    usual = read_usual(write(tmp_path), FACTS)
    assert usual[:2] == pytest.approx((0.09, 0.18))
    assert usual.cases == tuple(number / 100 for number in range(11))


@pytest.mark.parametrize(("key", "theirs"), [("temperature", 1.229), ("threshold", 0.4), ("checkpoint_sha256", "cd")])
def test_another_model_or_setting_says_nothing_of_this_one(tmp_path: Path, key: str, theirs: Any) -> None:
    message = rf"its {key} is {theirs!r}, that of this run {FACTS[key]!r}; expected the same model and settings"
    with pytest.raises(ValueError, match=message):
        read_usual(write(tmp_path, **{key: theirs}), FACTS)


@pytest.mark.parametrize(("key", "before", "now"), [("temperature", "1.0", 1.229), ("flip_axes", r"\[\]", [0, 1])])
def test_a_manifest_from_before_there_was_a_key_has_its_neutral_value(
    tmp_path: Path, key: str, before: str, now: Any
) -> None:
    folder = write(tmp_path, **{key: None})
    assert read_usual(folder, FACTS).uncertainty == pytest.approx(0.09)
    with pytest.raises(ValueError, match=rf"its {key} is {before}, that of this run {re.escape(str(now))}"):
        read_usual(folder, {**FACTS, key: now})


def test_few_cases_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 cases with a mask; expected 5 or more"):
        read_usual(write(tmp_path, cases=4), FACTS)


def bundle_of(folder: Path) -> Path:
    (folder / "drive" / "docs").mkdir(parents=True)
    return folder / "drive"


def test_a_published_reference_says_what_its_run_said_and_no_more(tmp_path: Path) -> None:
    run, bundle = write(tmp_path, source="/home/somebody/patients"), bundle_of(tmp_path)
    assert find_usual(bundle, FACTS) == Usual()
    line = publish_usual(run, bundle)
    assert "11 cases, median 0.050 nats a mask pixel, nine in ten at most 0.090" in line
    file = bundle / "docs" / "usual.json"
    assert "somebody" not in file.read_text()
    assert find_usual(bundle, FACTS) == read_usual(file, FACTS) == read_usual(run, FACTS)
    with pytest.raises(ValueError, match=r"usual.json is there already; expected none: remove it"):
        publish_usual(run, bundle)


@pytest.mark.parametrize("key", ["checkpoint_sha256", "samples", "temperature", "bundle"])
def test_what_the_bundle_brings_is_not_taken_for_other_weights_or_settings(tmp_path: Path, key: str) -> None:
    bundle = bundle_of(tmp_path)
    publish_usual(write(tmp_path), bundle)
    assert find_usual(bundle, {**FACTS, key: "another"}) == Usual()


def test_a_run_of_another_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a run of the bundle 'acdc'; expected one of 'drive'"):
        publish_usual(write(tmp_path, bundle="acdc"), bundle_of(tmp_path))
    assert not (tmp_path / "drive" / "docs" / "usual.json").exists()


REFERENCE = Usual(0.9, 0.2, tuple(number / 100 for number in range(100)))


def test_cases_that_are_each_within_the_usual_may_be_unlike_together() -> None:
    higher = [0.5 + number / 100 for number in range(40)]  # none beyond 0.9
    likeness = compare_with_usual(higher, REFERENCE)
    assert likeness is not None and likeness.is_unlike
    assert likeness.share == pytest.approx(0.7, abs=0.005)
    assert likeness.median == pytest.approx(0.695) and likeness.usual_median == pytest.approx(0.495)
    warning = likeness.describe()
    assert warning is not None and "median 0.695 nats a mask pixel, there 0.495; in 70 of 100 pairs" in warning


@pytest.mark.parametrize(
    "values",
    [
        [number / 40 for number in range(40)],  # the same spread
        [0.3 + number / 500 for number in range(40)],  # surer than the reference
        [0.75] * 5,  # by much, but five may be so by chance
        [0.1 + number / 1000 for number in range(1000)],  # beyond chance, for there are many, but by little
    ],
)
def test_little_or_by_chance_is_not_unlike(values: list[float]) -> None:
    likeness = compare_with_usual(values, REFERENCE)
    assert likeness is not None and not likeness.is_unlike and likeness.describe() is None


def test_few_cases_are_not_compared() -> None:
    assert compare_with_usual([0.99] * 4, REFERENCE) is None
    assert compare_with_usual([0.99] * 9, Usual()) is None
