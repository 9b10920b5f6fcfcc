"""`dial.json` as a prediction reads it."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.prediction.budget import Candidate
from hidiff_monai.prediction.dial_file import read_dial
from hidiff_monai.prediction.sampler import SamplerSetting

SHA = "ab" * 32


def write(folder: Path, rows: list[tuple[Any, ...]], sha: str = SHA, section: str = "validation") -> Path:
    settings = [
        dict(zip(("sampler", "steps", "samples", "dice_mean", "dice_cases"), row, strict=False)) for row in rows
    ]
    content = {"section": section, "checkpoint_sha256": sha, "settings": settings}
    (folder / "dial.json").write_text(json.dumps(content))
    return folder / "dial.json"


def test_candidates_are_what_a_prediction_runs(tmp_path: Path) -> None:
    rows = [("prior", 0, 1, 0.9), ("hard", 1, 1, 0.8), ("hard", 10, 1, 0.82), ("ddim", 5, 16, 0.81)]
    found = read_dial(write(tmp_path, rows), SHA, samples=4, max_steps=9, flip_axes=[])
    assert found.section == "validation" and found.candidates == [
        Candidate(SamplerSetting("hard", 1, 4), 0.8),  # with the chains for the uncertainty
        Candidate(SamplerSetting("ddim", 5, 16), 0.81),  # its own chains are the uncertainty
    ]  # neither the prior, nor more steps than T


def test_one_hard_step_is_always_there(tmp_path: Path) -> None:
    found = read_dial(write(tmp_path, [("hard", 3, 1, 0.8)]), SHA, samples=1, max_steps=10, flip_axes=[]).candidates
    assert found[0] == Candidate(SamplerSetting("hard", 3), 0.8)
    assert found[1].setting == SamplerSetting("hard", 1) and math.isnan(found[1].dice)


def test_a_missing_foreign_or_broken_file_is_told_with_its_mend(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dial.json is missing: .* `hidiff dial <bundle> <data set>`"):
        read_dial(tmp_path / "dial.json", SHA, 1, 10, [])
    file = write(tmp_path, [("hard", 1, 1, 0.8)], sha="cd" * 32)
    with pytest.raises(ValueError, match=r"SHA-256 cdcdcdcdcdcd\.\.\., those of this run have abababababab\.\.\."):
        read_dial(file, SHA, 1, 10, [])
    for broken in ("{", "[]", json.dumps({"checkpoint_sha256": SHA}), json.dumps({"checkpoint_sha256": SHA}) + "x"):
        file.write_text(broken)
        with pytest.raises(ValueError, match=r"dial.json: .* expected what `hidiff dial"):
            read_dial(file, SHA, 1, 10, [])
    for cases in ([0.8], {"a": "high"}, {"a": None}):
        with pytest.raises(ValueError, match=r"dial.json: \w+ in its settings; expected what `hidiff dial"):
            read_dial(write(tmp_path, [("hard", 1, 1, 0.8, cases)]), SHA, 1, 10, [])


def test_the_dice_of_each_case_come_along(tmp_path: Path) -> None:
    rows = [("hard", 1, 1, 0.8, {"a": 0.9, "b": 0.7}), ("hard", 2, 1, 0.8)]
    first, second = read_dial(write(tmp_path, rows), SHA, samples=4, max_steps=10, flip_axes=[]).candidates
    assert first == Candidate(SamplerSetting("hard", 1, 4), 0.8, {"a": 0.9, "b": 0.7}) and second.dice_cases is None


def test_training_cases_are_refused_and_test_cases_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("hard", 1, 1, 0.8)]
    with pytest.raises(ValueError, match=r"dial.json: was measured on section 'training', .*expected 'validation'"):
        read_dial(write(tmp_path, rows, section="training"), SHA, 1, 10, [])
    for section, warnings in (("validation", 0), ("test", 1)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert read_dial(write(tmp_path, rows, section=section), SHA, 1, 10, []).section == section
        assert len(caplog.records) == warnings
    assert "was measured on section 'test'" in caplog.text


def test_other_flips_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path, [("hard", 1, 1, 0.8)])  # of before there were flips
    for flip_axes, warnings in (([], 0), ([0, 1], 1)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            read_dial(file, SHA, 1, 10, flip_axes)
        assert len(caplog.records) == warnings
    assert "was measured with flip_axes [], this run has [0, 1]" in caplog.text
