"""Keys that `hidiff dial` sets itself, and what of the others is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.dial.overrides import require_free
from hidiff_monai.dial.run import run_dial
from hidiff_monai.io.command_line import describe_overrides

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
OWN = ["bundle_root", "dataset_dir", "datalist_file", "checkpoint", "device", "section"]
OWN += ["output_dir", "model_dir", "evaluation_dir", "initial_weights"]
OWN += ["num_inference_steps", "num_samples", "sampler", "validate#inferer#sampler", "validate#inferer#outputs"]


@pytest.mark.parametrize("key", OWN)
def test_what_the_verb_sets_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"--{key} 'x': `hidiff dial` sets it; expected other keys .*: \w+"):
        require_free({"threshold": 0.6, key: "x"})


def test_it_is_refused_before_anything_is_measured_or_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--output_dir 'x': `hidiff dial` sets it; .*: give --output"):
        run_dial(BUNDLES / "drive", tmp_path / "nowhere", output=tmp_path, overrides={"output_dir": "x"})
    assert not any(tmp_path.iterdir())


def test_keys_of_the_network_and_of_the_images_are_taken() -> None:
    require_free({"segmentor#channels": [4], "crop_size": [32, 32], "threshold": 0.6, "temperature": 1.2})


def test_paths_are_told_by_their_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "table.json").touch()
    monkeypatch.chdir(tmp_path)
    values: dict[str, tuple[Any, Any]] = {
        "absolute": ("/nowhere/ann/my data/x.json", "x.json"),
        "home": ("~/ann/x.json", "x.json"),
        "object": (tmp_path / "x.json", "x.json"),
        "existing": ("here/table.json", "table.json"),
        "expression": ("$load('/nowhere/ann/x.json') / 2", "$load('x.json') / 2"),
        "nested": ([{"file": "/nowhere/ann/x.json"}, 1], [{"file": "x.json"}, 1]),
        "names": ("monai.networks.nets.UNet", "monai.networks.nets.UNet"),
        "reference": ("$@crop_size[0] / 2", "$@crop_size[0] / 2"),
        "numbers": ((32, 0.5, True, None), [32, 0.5, True, None]),
    }
    told = describe_overrides({key: given for key, (given, _) in values.items()})
    assert told == {key: expected for key, (_, expected) in values.items()}
    assert "ann" not in json.dumps(told) and str(tmp_path) not in json.dumps(told)
