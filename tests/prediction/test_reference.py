"""What an earlier run says is usual, and which run may say it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.prediction.reference import Usual, compare_with_usual, find_usual, publish_reference, read_usual

FACTS: dict[str, Any] = {
    "bundle": "drive",
    "checkpoint_sha256": hashlib.sha256(b"weights").hexdigest(),
    "steps": 1,
    "samples": 4,
    "sampler": "hard",
    "temperature": 1.0,
    "flip_axes": [],
    "threshold": 0.5,
    "overrides": {},
    "bundle_sha256": [hashlib.sha256(b"inference").hexdigest(), "metadata"],
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
    assert usual.cases == (*(number / 100 for number in range(11)), math.inf)


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
    """A bundle that `FACTS` are of."""
    for name, content in (("docs", None), ("configs/inference.json", b"inference"), ("models/model.pt", b"weights")):
        file = folder / "drive" / name
        (file if content is None else file.parent).mkdir(parents=True)
        if content is not None:
            file.write_bytes(content)
    return folder / "drive"


def write_whole(folder: Path, **changed: Any) -> Path:
    """As `write`, of a run that came to its end."""
    return write(folder, planned=13, **changed)


def test_a_published_reference_says_what_its_run_said_and_no_more(tmp_path: Path) -> None:
    run, bundle = write_whole(tmp_path, source="/home/somebody/patients"), bundle_of(tmp_path)
    assert find_usual(bundle, FACTS) == Usual(source="the bundle brings none")
    line = publish_reference(bundle, run)
    assert "12 cases, median 0.055 nats a mask pixel, nine in ten at most 0.090" in line
    file = bundle / "docs" / "reference.json"
    assert "somebody" not in file.read_text()
    usual = find_usual(bundle, FACTS)
    assert usual.source == "docs/reference.json of the bundle"
    assert usual[:3] == read_usual(file, FACTS)[:3] == read_usual(run, FACTS)[:3]
    with pytest.raises(ValueError, match=r"reference.json is there already; expected none: remove it"):
        publish_reference(bundle, run)


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("checkpoint_sha256", "cd"),
        ("samples", 2),
        ("temperature", 2.0),
        ("overrides", {"image_size": [128, 128]}),
        ("bundle_sha256", ["changed", "metadata"]),
    ],
)
def test_what_the_bundle_brings_is_not_taken_for_other_weights_or_settings(tmp_path: Path, key: str, now: Any) -> None:
    bundle = bundle_of(tmp_path)
    publish_reference(bundle, write_whole(tmp_path))
    found = find_usual(bundle, {**FACTS, key: now})
    assert found == Usual(source=f"docs/reference.json of the bundle is of another {key}")
    assert find_usual(
        bundle, {**FACTS, "bundle_sha256": [FACTS["bundle_sha256"][0], "newer"]}
    ).uncertainty == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bundle": "acdc"}, "is a run of the bundle 'acdc'; expected a complete run of 'drive' with its own settings"),
        ({"planned": 20}, "is not complete; expected"),
        ({"overrides": {"image_size": 64}}, r"has settings of its own: \['image_size'\]; expected"),
        ({"given": ["steps", "threshold"]}, r"has settings of its own: \['steps', 'threshold'\]; expected"),
        ({"budget": {"milliseconds": 50}}, "has the settings that a budget chose; expected"),
        ({"bundle_sha256": ["of before", "metadata"]}, "was made with another configs/inference.json; expected"),
        ({"checkpoint_sha256": "cd"}, "was made with other weights; expected"),
        ({"cases": 4}, "4 cases with a mask; expected 5 or more: predict more"),
    ],
)
def test_what_cannot_be_a_bundle_s_reference_is_refused(tmp_path: Path, changed: Any, message: str) -> None:
    run = write(tmp_path, **{"planned": changed.get("cases", 11) + 2, **changed})
    with pytest.raises(ValueError, match=message):
        publish_reference(bundle_of(tmp_path), run)
    assert not (tmp_path / "drive" / "docs" / "reference.json").exists()


def test_a_broken_case_of_a_run_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({**FACTS, "cases": [{"status": "done", "verdict": {}}]}))
    with pytest.raises(
        ValueError, match=r"no manifest.json of an earlier run \(KeyError\); expected the output folder"
    ):
        read_usual(tmp_path, FACTS)


REFERENCE = Usual(0.9, 0.2, tuple(number / 100 for number in range(100)))


def test_cases_that_are_each_within_the_usual_may_be_unlike_together() -> None:
    higher = [0.5 + number / 100 for number in range(40)]  # none beyond 0.9
    likeness = compare_with_usual(higher, REFERENCE)
    assert likeness is not None and likeness.is_unlike
    assert likeness.share == pytest.approx(0.7, abs=0.005)
    assert likeness.medians == pytest.approx((0.695, 0.495)) and likeness.empty == (0, 0)
    warning = likeness.describe()
    assert warning is not None and "in 70 of 100 pairs the case" in warning and "empty" not in warning
    assert "median 0.695 nats a mask pixel, there 0.495." in warning


@pytest.mark.parametrize(("found", "median"), [([0.3] * 5, "0.3"), ([], "none")])
def test_masks_that_are_empty_count_as_the_most_uncertain(found: list[float], median: str) -> None:
    likeness = compare_with_usual([None] * 15 + found, REFERENCE)
    assert likeness is not None and likeness.is_unlike and likeness.empty == (15, 0)
    warning = likeness.describe()
    assert warning is not None
    assert f"median {median} nats a mask pixel, there 0.495. 15 masks are empty, there 0." in warning


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
