"""What may be overridden, and which rows may stand in one table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.ablation.settings import describe_ablation, read_epochs, require_free_keys, require_same_settings
from hidiff_monai.cli import main

DRIVE = Path(__file__).resolve().parents[2] / "bundles" / "drive"


@pytest.mark.parametrize(
    "key",
    ["refiner#binarized", "refiner", "alternation::lambda_diff", "alternation", "diffusion_loss#gamma", "sampler"]
    + ["num_inference_steps", "num_samples", "checkpoint", "model_dir", "network", "seed", "train#trainer"],
)
def test_what_the_variants_and_runs_set_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got overrides ['{key}']; expected none")):
        require_free_keys({key: 1, "learning_rate": 0.1})


def test_everything_else_is_free() -> None:
    keys = ["refiner#channels", "segmentor#channels", "train#trainer#max_grad_norm", "learning_rate", "val_interval"]
    require_free_keys(dict.fromkeys(keys, 1))


def test_epochs_are_the_configurations_or_the_users() -> None:
    assert read_epochs(DRIVE, {}) == {"pretrain_epochs": 12, "alternating_epochs": 10}
    assert read_epochs(DRIVE, {"pretrain_epochs": 4, "max_epochs": 10}) == {
        "pretrain_epochs": 4,
        "alternating_epochs": 6,
    }


def test_facts_hold_content_and_no_paths(tmp_path: Path) -> None:
    datalist = tmp_path / "datalist.json"
    datalist.write_text("{}")
    places = {"dataset_dir": str(tmp_path), "datalist_file": str(datalist), "logging_file": str(tmp_path / "log.conf")}
    facts = describe_ablation(DRIVE, "test", places)
    assert str(tmp_path) not in json.dumps(facts) and facts["overrides"] == {"logging_file": "log.conf"}
    moved = tmp_path / "elsewhere" / "list.json"
    moved.parent.mkdir()
    moved.write_text("{}")
    assert describe_ablation(DRIVE, "test", {**places, "datalist_file": str(moved)}) == facts
    moved.write_text('{"training": []}')
    assert describe_ablation(DRIVE, "test", {**places, "datalist_file": str(moved)}) != facts
    assert describe_ablation(DRIVE, "test", {})["datalist_sha256"]  # the bundle's own


def test_other_settings_are_named_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    require_same_settings(file, {"section": "test", "overrides": {}})
    before = file.read_bytes()
    require_same_settings(file, {"section": "test", "overrides": {}})
    with pytest.raises(ValueError, match=r"the rows there have section 'test', now it is 'validation'"):
        require_same_settings(file, {"section": "validation", "overrides": {}})
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["drove"], "drove is no bundle's folder; expected one with configs/, or one of ['acdc'"),
        (["drive", "--variants", "v9"], "got variants ['v9']"),
        (["drive", "--max_epochs", "4"], "pretrain_epochs is 12, max_epochs 4; expected pre-training and"),
        (["drive", "--max_epoch", "4"], "did you mean --max_epochs?"),
        (["drive", "--alternation#segmentor_epochs", "18"], "got overrides ['alternation#segmentor_epochs']; expected"),
    ],
)
def test_mistakes_end_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: list[Any], message: str
) -> None:
    with pytest.raises(SystemExit):
        main(["ablate", *line, "--output_dir", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # so that the line, mended, finds no settings of another
