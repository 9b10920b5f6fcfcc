"""Mistakes on MONAI's command line: unknown keys are refused, and the cause is said last."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hidiff_monai.io import guard_command_line
from hidiff_monai.io.command_line import as_list, describe_lost_process


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back afterwards
    files = {
        "train": {"crop_size": [4, 4], "refiner": {"channels": [8]}, "validate": {}, "handlers": [{"x": 1}]},
        "evaluate": {"validate#inferer": {"x": 1}, "section": "test"},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return f"['{tmp_path}/train.json','{tmp_path}/evaluate.json']"


def test_a_misspelt_key_is_named_with_its_neighbour(config: str) -> None:
    with pytest.raises(ValueError, match="--crop_sze: no key 'crop_sze' .* did you mean --crop_size?"):
        guard_command_line(["run", "training", "--config_file", config, "--crop_sze", "[2,2]"])
    with pytest.raises(ValueError, match="no key 'infrer' in 'validate'; .* did you mean --validate#inferer#steps?"):
        guard_command_line(["run", "--config_file", config, "--validate#infrer#steps", "2"])
    with pytest.raises(ValueError, match="no key 'chanels' in 'refiner'; .* did you mean --refiner#channels?"):
        guard_command_line(["run", "--config_file", config, "--refiner#chanels", "[4]"])
    with pytest.raises(ValueError, match="--qqq#x: no key 'qqq' .*configuration.md"):
        guard_command_line(["run", f"--config_file={config}", "--qqq#x=1"])


def test_keys_of_every_file_and_monai_s_own_pass(config: str) -> None:
    options = ["--crop_size", "[2,2]", "--handlers#0#x", "2", "--validate#inferer#steps", "2"]
    options += [
        "--refiner#channels",
        "[4]",
        "--refiner#embedding_dim",
        "8",
        "--section#x",
        "1",
        "--validate#inferer",
        "1",
        "--section=test",
    ]
    guard_command_line(["run", "--config_file", config, "--meta_file", "m.json", "--logging_file=l.conf", *options])
    guard_command_line(["--anything", "goes without a configuration"])


SCRIPT = """
from hidiff_monai.io import guard_command_line
guard_command_line(["--config_file", {config!r}])
try:
    raise {cause}
except Exception as error:
    raise RuntimeError("Failed to evaluate ConfigExpression") from error
"""


def run_script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def test_the_cause_is_the_last_line_and_ctrl_c_is_one_line(config: str) -> None:
    done = run_script(SCRIPT.format(config=config, cause="ValueError('a.png: size 3; expected 4: crop it')"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: a.png: size 3; expected 4: crop it"
    assert "Failed to evaluate ConfigExpression" in done.stderr
    script = SCRIPT.format(config=config, cause="KeyboardInterrupt")
    stopped = run_script(script.replace("except Exception", "except OSError"))
    assert stopped.returncode != 0 and "Traceback" not in stopped.stderr
    assert "goes on from its last finished epoch" in stopped.stdout


@pytest.mark.parametrize(("kind", "delay"), [("ValueError", 0), ("ConnectionError", 2)])
def test_torchrun_is_told_the_sentence(config: str, tmp_path: Path, kind: str, delay: int) -> None:
    file = tmp_path / "error.json"
    script = SCRIPT.format(config=config, cause=f"{kind}('gone')")
    start = int(time.time())
    run_script(script, TORCHELASTIC_ERROR_FILE=str(file))
    told = json.loads(file.read_text())
    assert told["message"] == ("error: gone" if kind == "ValueError" else f"error: {kind}: gone")
    assert start + delay <= told["timestamp"] <= time.time() + delay  # what follows from another failure comes later


def test_a_lost_process_is_called_one() -> None:
    lost = RuntimeError("[/build/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer.\nGood luck")
    sentence = describe_lost_process(lost)
    assert sentence is not None and sentence.startswith("error: another process is lost (")
    assert "Connection reset by peer.): torchrun's report says which" in sentence and "Good luck" not in sentence
    assert describe_lost_process(torch.distributed.DistBackendError("NCCL error")) is not None
    assert describe_lost_process(RuntimeError("out of memory")) is None


@pytest.mark.parametrize(("option", "mend"), [("false", "False"), ("true", "True"), ("null", "'$None'")])
def test_the_spelling_of_json_is_refused(config: str, option: str, mend: str) -> None:
    """MONAI's command line would hand on the text "false", which is true."""
    for arguments in (["--refiner#binarized", option], [f"--refiner#binarized={option}"]):
        message = f"--refiner#binarized {option} would be read as text; expected {mend}"
        with pytest.raises(ValueError, match=re.escape(message)):
            guard_command_line(["run", "--config_file", config, *arguments])
    guard_command_line(["run", "--config_file", config, "--refiner#binarized", mend.strip("'")])


def test_none_that_monai_leaves_out_is_refused(config: str) -> None:
    with pytest.raises(ValueError, match=re.escape("--refiner None would be left out; expected an expression")):
        guard_command_line(["run", "--config_file", config, "--refiner", "None"])
    guard_command_line(["run", "--config_file", config, "--refiner", "$None", "--meta_file", "None"])


def test_tracking_without_mlflow_names_what_to_install(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs mlflow and sqlalchemy: pip install "hidiff-monai\[tracking\]"'):
        guard_command_line(["run", "--config_file", config, "--tracking", "mlflow"])


def test_keys_of_a_file_of_tracking_settings_pass(config: str, tmp_path: Path) -> None:
    settings = tmp_path / "tracking.json"
    settings.write_text(json.dumps({"handlers_id": {}, "configs": {"aim_repo": "somewhere"}}))
    guard_command_line(["run", "--config_file", config, "--tracking", str(settings), "--aim_repo", "here"])


@pytest.mark.parametrize(
    ("value", "items"), [((1, 2), [1, 2]), ([1, 2], [1, 2]), (1, [1]), ("v4", ["v4"]), ((), []), (None, [None])]
)
def test_one_value_is_a_list_of_one(value: Any, items: list[Any]) -> None:
    assert as_list(value) == items
