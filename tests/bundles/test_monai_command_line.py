"""MONAI's own command line on every bundle, from the repository's root and from inside the bundle's folder."""

from __future__ import annotations

import csv
import importlib.util
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
BUNDLES = sorted(path.name for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())
RULES = next(REPOSITORY.rglob("metadata_rules.json"))
SPEC = importlib.util.spec_from_file_location("raw", Path(__file__).with_name("raw.py"))
assert SPEC is not None and SPEC.loader is not None
raw = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(raw)

WIDTHS = [4, 4, 4, 4, 4, 4]
TINY = {"segmentor#channels": WIDTHS, "refiner#channels": WIDTHS}
TRAINING = {**TINY, "pretrain_epochs": 1, "max_epochs": 2, "val_interval": 2}

# one of them by default; test_drive.py has the other place
RUNS = [
    pytest.param(name, is_inside, marks=() if (name, is_inside) == ("drive", True) else pytest.mark.slow)
    for name in BUNDLES
    for is_inside in (False, True)
]

Command = Callable[..., None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`python -m monai.bundle`, in a folder, in this process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # a run sets its own

    def call(folder: Path, *verbs: str, **options: Any) -> None:
        monkeypatch.chdir(folder)
        arguments = [f"--{key}={value}" for key, value in options.items()]
        monkeypatch.setattr(sys, "argv", ["monai.bundle", *verbs, *arguments])
        runpy.run_module("monai.bundle", run_name="__main__")

    return call


class Place:
    """A folder that commands run in, and what they must be told there."""

    def __init__(self, name: str, is_inside: bool) -> None:
        self.bundle = REPOSITORY / "bundles" / name
        self.folder = self.bundle if is_inside else REPOSITORY
        self.configs = "configs" if is_inside else f"bundles/{name}/configs"
        self.options = {"bundle_root": "."} if is_inside else {}

    def files(self, *names: str) -> str:
        files = [f"{self.configs}/{name}.json" for name in names]
        return files[0] if len(files) == 1 else str(files)


def settings_of(name: str, folder: Path) -> dict[str, Any]:
    """A training of tiny networks on made-up data."""
    dataset_dir, datalist = raw.make_dataset(name, folder / "data")
    train = json.loads((REPOSITORY / "bundles" / name / "configs" / "train.json").read_text())
    size = {"image_size" if "image_size" in train else "crop_size": [64, 64]}
    places = {"dataset_dir": dataset_dir, "datalist_file": datalist, "output_dir": folder / "output"}
    repeats = {"repeats_per_epoch": 2} if "repeats_per_epoch" in train else {}
    return {**TRAINING, **size, **repeats, **places}


@pytest.mark.parametrize("is_inside", [False, True], ids=["root", "inside"])
@pytest.mark.parametrize("name", BUNDLES)
def test_metadata_and_network_are_verified(name: str, is_inside: bool, command: Command, tmp_path: Path) -> None:
    place, rules = Place(name, is_inside), shutil.copy(RULES, tmp_path / "rules.json")
    metadata = f"{place.configs}/metadata.json"
    command(place.folder, "verify_metadata", meta_file=metadata, filepath=rules)
    files = {"meta_file": metadata, "config_file": place.files("inference")}
    command(place.folder, "verify_net_in_out", "network_def", **files, device="cpu", **TINY, **place.options)
    wrong = {**TINY, "segmentor#channels": [4, 4, 4]}  # an override that arrives breaks the network
    with pytest.raises((RuntimeError, ValueError)):
        command(place.folder, "verify_net_in_out", "network_def", **files, device="cpu", **wrong, **place.options)


@pytest.mark.parametrize(("name", "is_inside"), RUNS)
def test_training_evaluation_and_inference_run(name: str, is_inside: bool, command: Command, tmp_path: Path) -> None:
    place, settings = Place(name, is_inside), settings_of(name, tmp_path)
    before = {path for path in place.bundle.rglob("*") if "__pycache__" not in path.parts}
    command(place.folder, "run", "training", config_file=place.files("train"), **settings, **place.options)
    with open(tmp_path / "output" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["phase"]) for row in rows] == [("1", "pretrain"), ("2", "alternate")]
    assert rows[0]["val_dice_refined"] == "" and rows[1]["val_dice_refined"] != ""

    files = place.files("train", "evaluate")
    command(place.folder, "run", config_file=files, **settings, section="validation", **place.options)
    assert (tmp_path / "output" / "evaluation_validation" / "index.html").is_file()

    predicted = {"output_dir": tmp_path / "masks", "checkpoint": tmp_path / "output" / "models" / "model.pt"}
    predicted["dataset_dir"] = scan_of(name, settings)
    command(place.folder, "run", "run", config_file=place.files("inference"), **TINY, **predicted, **place.options)
    assert len(list((tmp_path / "masks").glob("*_mask.*"))) == 1
    assert {path for path in place.bundle.rglob("*") if "__pycache__" not in path.parts} == before


def scan_of(name: str, settings: dict[str, Any]) -> Path:
    """What a user would predict of the made-up data."""
    source = Path(settings["datalist_file"]).parents[1] / "raw"
    scans = {
        "acdc": source / "training" / "patient001" / "patient001_frame01.nii.gz",
        "brats": source / "BraTS2021_00000",
        "synapse": source / "img" / "img0001.nii.gz",
    }
    return scans.get(name, Path(settings["dataset_dir"]) / "2.png")


def test_overrides_from_files_and_the_line_as_monai_describes_them(command: Command, tmp_path: Path) -> None:
    """A later file, a file of arguments, a macro `%file#key`, nested keys, None and False."""
    place, settings = Place("drive", is_inside=True), settings_of("drive", tmp_path)
    optimizer = {"_target_": "torch.optim.SGD", "params": "$@network.refiner.parameters()", "lr": 0.5}
    (tmp_path / "optimizers.json").write_text(json.dumps({"mine": optimizer}))
    (tmp_path / "later.json").write_text(json.dumps({"repeats_per_epoch": 1}))
    arguments = {"config_file": [f"{place.bundle}/configs/train.json", str(tmp_path / "later.json")], "max_epochs": 9}
    (tmp_path / "arguments.json").write_text(json.dumps(arguments))
    seen = "@train#trainer.max_grad_norm, @amp, type(@refiner_optimizer).__name__, @train#trainer.state.epoch_length"
    overrides = {
        "max_epochs": 1,  # before the 9 of the file of arguments
        "pretrain_epochs": 0,
        "refiner_optimizer": f"%{tmp_path / 'optimizers.json'}#mine",
        "train#trainer#max_grad_norm": "$None",  # a plain None MONAI leaves out
        "amp": False,
        "run": ["$@train#trainer.run()", f"$open('{tmp_path / 'seen.txt'}', 'w').write(str([{seen}]))"],
    }
    command(place.folder, "run", args_file=tmp_path / "arguments.json", **{**settings, **overrides}, **place.options)
    assert (tmp_path / "seen.txt").read_text() == "[None, False, 'SGD', 1]"
    assert len((tmp_path / "output" / "history.csv").read_text().splitlines()) == 1 + 1
