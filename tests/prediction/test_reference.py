"""What an earlier run says is usual, and which run may say it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.prediction.reference import Usual, read_usual

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
    assert read_usual(write(tmp_path), FACTS) == pytest.approx(Usual(0.09, 0.18))


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
