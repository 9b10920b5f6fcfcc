"""A run that others are put together with: what it has been begun with is what it goes on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai import bundle_runs, cross_validation
from hidiff_monai.bundle_runs import SETTINGS, train_and_evaluate

DRIVE = Path(__file__).parents[1] / "bundles" / "drive"


def settings_of(folder: Path) -> dict[str, Any]:
    """The user's own, without what is told of the bundle."""
    told = json.loads((folder / SETTINGS).read_text())
    assert told.pop("bundle") == "drive" and len(told.pop("config_sha256")) == 2 and told.pop("files_sha256") == {}
    return told


@pytest.fixture
def stop_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Sets what the next trainings leave behind before they end badly: a file, or nothing; None lets them end well."""
    left: list[str | None] = [None]

    def run(run_id: str, files: Any, settings: Mapping[str, Any]) -> None:
        folder = Path(settings["output_dir"])
        name = left[0] if run_id == "training" else "evaluation_test/index.html"
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
        if run_id == "training" and left[0] is not None:
            raise ValueError("stopped")

    monkeypatch.setattr(bundle_runs, "run_bundle", run)
    return lambda name: left.__setitem__(0, name)


def test_an_interrupted_training_does_not_go_on_with_other_settings(
    stop_training: Callable[[str | None], None], tmp_path: Path
) -> None:
    stop_training("resume/resume_1.pt")
    with pytest.raises(ValueError, match="stopped"):
        train_and_evaluate(DRIVE, tmp_path, {"seed": 0, "max_epochs": 6})
    stop_training(None)
    with pytest.raises(ValueError, match="the rows there have max_epochs 6, now it is None"):
        train_and_evaluate(DRIVE, tmp_path, {"seed": 0})
    assert settings_of(tmp_path) == {"seed": 0, "max_epochs": 6}
    assert train_and_evaluate(DRIVE, tmp_path, {"seed": 0, "max_epochs": 6}) == tmp_path / "evaluation_test"


def test_settings_with_which_nothing_was_trained_bind_nobody(
    stop_training: Callable[[str | None], None], tmp_path: Path
) -> None:
    stop_training("")
    with pytest.raises(ValueError, match="stopped"):
        train_and_evaluate(DRIVE, tmp_path, {"max_epoch": 6})
    stop_training(None)
    train_and_evaluate(DRIVE, tmp_path, {"max_epochs": 6})
    assert settings_of(tmp_path) == {"max_epochs": 6}


def test_runs_of_another_bundle_or_configuration_are_not_put_together(
    stop_training: Callable[[str | None], None], tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(DRIVE / "configs", tmp_path / "a" / "configs")).parent
    train_and_evaluate(bundle, tmp_path / "out", {"seed": 0})
    with pytest.raises(ValueError, match="the rows there have bundle 'a', now it is 'drive'"):
        train_and_evaluate(DRIVE, tmp_path / "out", {"seed": 0})
    train = bundle / "configs" / "train.json"
    train.write_text(train.read_text().replace('"max_epochs": 22', '"max_epochs": 23'))
    with pytest.raises(ValueError, match="the rows there have config_sha256"):
        train_and_evaluate(bundle, tmp_path / "out", {"seed": 0})
    (tmp_path / "out" / SETTINGS).write_text('{"seed": 0}')  # as an earlier version told it
    train_and_evaluate(bundle, tmp_path / "out", {"seed": 0})


def test_folds_of_other_machines_are_compared_before_a_training(
    stop_training: Callable[[str | None], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "_put_together", lambda *_: tmp_path)
    cases = [{"id": name, "image": f"{name}.png", "label": f"{name}.png"} for name in "abc"]
    content = {"name": "x", "label_values": {"0": 0, "255": 1}, "label_names": ["vessel"], "channels": 3}
    folds = {"0": ["a"], "1": ["b"], "2": ["c"]}
    datalist, other = tmp_path / "datalist.json", tmp_path / "other.json"
    datalist.write_text(json.dumps({**content, "training": cases, "folds": folds}))
    other.write_text(json.dumps({**content, "training": cases, "folds": {**folds, "0": ["b"], "1": ["a"]}}))
    arguments = (DRIVE, tmp_path, tmp_path / "out")
    assert cross_validation.run_cross_validation(*arguments, datalist, ["0"], {"max_epochs": 40}) is None
    with pytest.raises(ValueError, match="the rows there have max_epochs 40, now it is 2"):
        cross_validation.run_cross_validation(*arguments, datalist, ["1", "2"], {"max_epochs": 2})
    with pytest.raises(ValueError, match="fold_0/datalist.json holds another division"):
        cross_validation.run_cross_validation(*arguments, other, ["1", "2"], {"max_epochs": 40})
    assert not (tmp_path / "out" / "fold_1").exists()
    assert cross_validation.run_cross_validation(*arguments, datalist, None, {"max_epochs": 40}) == tmp_path


def test_runs_from_other_weights_of_the_same_name_are_not_put_together(
    stop_training: Callable[[str | None], None], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt").write_text(name)
    train_and_evaluate(DRIVE, tmp_path / "out", {"initial_weights": str(tmp_path / "a" / "model.pt")})
    with pytest.raises(ValueError, match="the rows there have files_sha256"):
        train_and_evaluate(DRIVE, tmp_path / "out", {"initial_weights": str(tmp_path / "b" / "model.pt")})
    for own in ("model_dir", "resume_from"):
        with pytest.raises(ValueError, match=rf"got \['{own}'\]; expected none of these here"):
            train_and_evaluate(DRIVE, tmp_path / "new", {own: str(tmp_path)})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_ends_a_study_ends_its_training(tmp_path: Path, number: int) -> None:
    """A training left behind would go on writing beside the next one."""
    training = tmp_path / "training"
    training.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\ntrap '' INT; exec sleep 60\n")
    training.chmod(0o755)
    code = "import signal, sys; from hidiff_monai import bundle_runs; sys.executable = sys.argv[1]\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell's background job ignores
    code += "bundle_runs.run_bundle('training', ['x.json'], {'output_dir': 'x'})"
    with subprocess.Popen([sys.executable, "-c", code, str(training)]) as study:
        wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text() != "")
        study.send_signal(number)
        assert study.wait(timeout=30) != 0
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()
