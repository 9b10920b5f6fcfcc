"""`hidiff dial` from a data set to its files, on tiny untrained networks; Dice against the evaluation's own scores."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from hidiff_monai.cli import main
from hidiff_monai.data import write_phantoms
from hidiff_monai.dial import run as run_module
from hidiff_monai.dial.run import run_dial
from hidiff_monai.dial.subject import Case, load_subject
from hidiff_monai.prediction import Budget, run_prediction

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
OVERRIDES = {"segmentor#channels": [4] * 6, "refiner#channels": [4] * 6, "crop_size": [32, 32]}


def load_raw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("raw", BUNDLES.parent / "tests" / "bundles" / "raw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The arguments of `run_dial` but for the output: made-up data and random weights whose masks are not empty."""
    made: dict[str, dict[str, Any]] = {}

    def make(name: str) -> dict[str, Any]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            if name == "drive":
                datalist = write_phantoms(folder / "data", 1, 3, 1, size=(64, 80), progress=False)
                dataset_dir = datalist.parent
            else:
                dataset_dir, datalist = load_raw().make_dataset(name, folder)
            parser = ConfigParser()
            parser.read_config(BUNDLES / name / "configs" / "inference.json")
            parser.update({**OVERRIDES, "device": torch.device("cpu")})
            torch.manual_seed(0)
            network = parser.get_parsed_content("network")
            torch.nn.init.normal_(network.refiner.correction.weight, std=1.0)  # at 0 the refiner returns the prior
            torch.save(network.state_dict(), folder / "model.pt")
            made[name] = {
                "bundle": BUNDLES / name,
                "dataset_dir": dataset_dir,
                "datalist_file": datalist,
                "checkpoint": folder / "model.pt",
                "device": "cpu",
                "overrides": OVERRIDES,
            }
        return made[name]

    return make


def read(folder: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    rows = json.loads((folder / "dial.json").read_text(encoding="utf-8"))["settings"]
    return {(row["sampler"], row["steps"], row["samples"]): row for row in rows}


@pytest.mark.parametrize("name", ["drive", "acdc"])
def test_dice_is_what_the_evaluation_scores(
    tmp_path: Path, make_case: Callable[[str], dict[str, Any]], name: str
) -> None:
    arguments = make_case(name)
    text = run_dial(output=tmp_path / "dial", steps=[2, 5], samples=[1, 4], **arguments)
    rows = read(tmp_path / "dial")
    assert [*rows] == [("prior", 0, 1), ("hard", 2, 1), ("hard", 5, 1), ("ddim", 5, 1), ("ddim", 5, 4)]
    for key in (("hard", 2, 1), ("ddim", 5, 4)):
        scores = evaluate(arguments, tmp_path / f"{key[0]}_{key[1]}", *key)
        for method, row in (("refined", rows[key]), ("prior", rows[("prior", 0, 1)])):
            by_case = [np.mean(scores[case][method]) for case in scores]
            assert row["dice_mean"] == pytest.approx(np.mean(by_case), abs=0.002)  # another form of the refiner
            assert row["n"] == len(by_case) and row["dice_cases"].keys() == scores.keys()
            assert [row["dice_cases"][case] for case in scores] == pytest.approx(by_case, abs=0.01)
            assert np.mean([*row["dice_cases"].values()]) == pytest.approx(row["dice_mean"], abs=1e-6)
    assert rows[("ddim", 5, 4)]["dice_mean"] != rows[("ddim", 5, 1)]["dice_mean"]
    assert all(0 < row["seconds_least"] <= row["seconds_median"] <= row["seconds_most"] for row in rows.values())
    content = json.loads((tmp_path / "dial" / "dial.json").read_text(encoding="utf-8"))
    assert content["section"] == "validation" and content["bundle"] == name and content["threads"] >= 1
    assert str(tmp_path) not in json.dumps(content)  # it is published with the bundle
    with Image.open(tmp_path / "dial" / "dial.png") as picture:
        assert picture.width > 800
    assert "mean of 4 chains of 5 steps, DDIM" in text and f"{100 * rows[('hard', 2, 1)]['dice_mean']:.2f}" in text


def evaluate(
    arguments: dict[str, Any], folder: Path, sampler: str, steps: int, samples: int
) -> dict[str, dict[str, list[float]]]:
    """Dice by case and method of the bundle's evaluation workflow, with the network as it was trained."""
    bundle = arguments["bundle"]
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / f"{name}.json") for name in ("train", "evaluate")])
    settings = {"sampler": sampler, "num_inference_steps": steps, "num_samples": samples, "section": "validation"}
    places = {key: str(arguments[key]) for key in ("dataset_dir", "datalist_file")}
    parser.update({**arguments["overrides"], **settings, **places, "bundle_root": str(bundle), "device": "cpu"})
    parser.update({"evaluation_dir": str(folder), "validate#dataset#_target_": "Dataset"})
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(arguments["checkpoint"]))
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    rows = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    scores: dict[str, dict[str, list[float]]] = {}
    for row in rows["cases"] if isinstance(rows, dict) else rows:
        if row["region"] in ("whole image", "whole volume"):
            scores.setdefault(row["case"], {}).setdefault(row["method"], []).append(row["dice"])
    return scores


def test_a_stopped_measurement_goes_on_and_a_larger_grid_adds_to_it(
    tmp_path: Path, make_case: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[str, int]] = []
    original = run_module.measure_setting

    def stop(subject: Any, setting: Any, advance: Any) -> dict[str, Any]:
        if setting.sampler == "ddim":
            raise KeyboardInterrupt
        measured.append((setting.sampler, setting.steps))
        return original(subject, setting, advance)

    monkeypatch.setattr(run_module, "measure_setting", stop)
    run: dict[str, Any] = {"output": tmp_path, "samples": [1], **make_case("drive")}
    with pytest.raises(KeyboardInterrupt):
        run_dial(steps=[1, 5], **run)
    assert measured == [("prior", 0), ("hard", 1), ("hard", 5)]
    kept = read(tmp_path)
    monkeypatch.setattr(run_module, "measure_setting", original)
    run_dial(steps=[1, 2, 5], **run)
    rows = read(tmp_path)
    assert [*rows] == [("prior", 0, 1), ("hard", 1, 1), ("hard", 2, 1), ("hard", 5, 1), ("ddim", 5, 1)]
    assert all(rows[key] == kept[key] for key in kept)  # to the microsecond: not measured again


def test_other_weights_data_or_settings_are_refused(tmp_path: Path, make_case: Callable[[str], dict[str, Any]]) -> None:
    arguments = make_case("drive")
    run: dict[str, Any] = {"output": tmp_path / "out", "steps": [1], "samples": [1], **arguments}
    run_dial(**run)
    before = (tmp_path / "out" / "dial.json").read_bytes()
    state = torch.load(arguments["checkpoint"])
    torch.save(
        {key: value + 0.01 if value.is_floating_point() else value for key, value in state.items()}, tmp_path / "x.pt"
    )
    datalist = write_phantoms(tmp_path / "other", 1, 3, 1, size=(64, 80), seed=5, progress=False)
    others = {
        "checkpoint_sha256": {"checkpoint": tmp_path / "x.pt"},
        "data_sha256": {"datalist_file": datalist, "dataset_dir": datalist.parent},
        "section": {"section": "test"},
        "overrides": {"overrides": {**OVERRIDES, "threshold": 0.6}},
    }
    for key, other in others.items():
        with pytest.raises(ValueError, match=rf"dial.json: was measured with {key} .*remove the file"):
            run_dial(**{**run, **other})
        assert (tmp_path / "out" / "dial.json").read_bytes() == before
    (tmp_path / "out" / "dial.json").write_text("[]")
    with pytest.raises(ValueError, match="dial.json: is not from `hidiff dial`"):
        run_dial(**run)
    assert (tmp_path / "out" / "dial.json").read_text() == "[]"


def test_the_prior_runs_without_the_refiner(
    make_case: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = load_subject(**make_case("acdc"))
    monkeypatch.setattr(type(subject.network.refiner), "encode_condition", lambda *_: pytest.fail("the refiner runs"))
    case = next(subject.cases())
    maps = subject.inferer_for(run_module.make_grid(10)[0])(case.image[None], subject.network)
    assert torch.equal(maps["refined"], maps["prior"]) and maps["refined"].shape == (1, 1, *case.image.shape[1:])


def test_the_prior_sees_the_image_in_every_way_that_the_evaluation_does(
    make_case: Callable[[str], dict[str, Any]],
) -> None:
    arguments = make_case("drive")
    plain, flipped = (
        load_subject(**{**arguments, "overrides": {**arguments["overrides"], "flip_axes": axes}}) for axes in ([], [1])
    )
    image = next(plain.cases()).image[None]
    before, after = (
        subject.inferer_for(run_module.make_grid(10)[0])(image, subject.network)["refined"]
        for subject in (plain, flipped)
    )
    torch.testing.assert_close(after, flipped.inferer(image, flipped.network)["prior"])
    assert not torch.allclose(before, after)


def test_a_prediction_under_a_budget_reads_what_was_measured(
    tmp_path: Path, make_case: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = make_case("drive")
    line = ["dial", "drive", str(arguments["dataset_dir"]), "--steps", "1,2", "--samples", "4"]
    line += [f"--{key}={arguments[key]}" for key in ("datalist_file", "checkpoint", "device")]
    line += [f"--{key}={value}" for key, value in OVERRIDES.items()]
    main([*line, "--output", str(tmp_path)])
    assert "2 steps, hard" in capsys.readouterr().out
    rows = read(tmp_path)
    assert [*rows] == [("prior", 0, 1), ("hard", 1, 1), ("hard", 2, 1)]
    given = {key: arguments[key] for key in ("bundle", "checkpoint", "device", "overrides")}
    source = Path(arguments["dataset_dir"]) / "test" / "images"
    manifest = run_prediction(source=source, output=tmp_path / "out", budget=Budget(1e6, tmp_path), **given)
    first, second = (np.array([*rows[("hard", steps, 1)]["dice_cases"].values()]) for steps in (1, 2))
    tie = max(0.0005, np.std(second - first, ddof=1) / np.sqrt(len(first)))
    assert manifest["steps"] == (2 if second.mean() > first.mean() + tie else 1)
    assert manifest["budget"]["dial_dice"] == rows[("hard", manifest["steps"], 1)]["dice_mean"]
    assert manifest["budget"]["dial_section"] == "validation"


def test_exclusive_classes_are_scored_without_their_background(
    tmp_path: Path, make_case: Callable[[str], dict[str, Any]]
) -> None:
    arguments = make_case("drive")
    folder = shutil.copytree(BUNDLES / "drive" / "configs", tmp_path / "discs" / "configs").parent
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = {"0": "background", "1": "disc", "2": "cup"}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = channels
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    classes = {"segmentor#num_targets": 3, "refiner#num_targets": 3, "network_def#exclusive": True}
    overrides = {**OVERRIDES, **classes}
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.update({**overrides, "device": torch.device("cpu")})
    torch.save(parser.get_parsed_content("network").state_dict(), tmp_path / "model.pt")
    subject = load_subject(
        folder, arguments["dataset_dir"], arguments["datalist_file"], checkpoint=tmp_path / "model.pt",
        device="cpu", overrides=overrides,
    )  # fmt: skip
    assert (subject.targets, subject.channels) == (["disc", "cup"], [1, 2])
    label = torch.zeros(3, 4, 4)
    label[0, 0], label[1, 1:], label[2, 3] = 1, 1, 0
    nothing = torch.zeros(1, 3, 4, 4)
    nothing[:, 0] = 1
    case = Case("a", torch.zeros(3, 4, 4), label)
    assert subject.score({"refined": label[None]}, case) == 1
    assert subject.score({"refined": nothing}, case) == 0.5  # the disc missed; the absent cup rightly not found


def test_cases_without_labels_and_a_folder_without_bundle_are_told(
    tmp_path: Path, make_case: Callable[[str], dict[str, Any]]
) -> None:
    arguments = make_case("drive")
    datalist = json.loads(Path(arguments["datalist_file"]).read_text(encoding="utf-8"))
    datalist["validation"][0].pop("label")
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises(ValueError, match="of section 'validation' has no label"):
        load_subject(**{**arguments, "datalist_file": tmp_path / "datalist.json"})
    with pytest.raises(ValueError, match="train.json is missing"):
        load_subject(tmp_path, arguments["dataset_dir"])
    with pytest.raises(ValueError, match="no key 'crop_sise'"):
        load_subject(**{**arguments, "overrides": {"crop_sise": [32, 32]}})
