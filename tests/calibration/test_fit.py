"""`hidiff calibrate`: a known temperature from an evaluation's files, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, State

from hidiff_monai.calibration.fit import calibrate_evaluation
from hidiff_monai.cli import main
from hidiff_monai.handlers import EvaluationWriter
from hidiff_monai.metrics import apply_temperature, read_calibration

SHAPE = (90, 100)


def evaluate(folder: Path, temperature: float = 1.0, targets: int = 1, **facts: Any) -> Path:
    """Three validation images whose labels are drawn from what the refined probability says at temperature 1.6."""
    writer = EvaluationWriter(folder, ["vessel", "disc"][:targets])
    torch.manual_seed(1)
    cases = []
    for name in "abc":
        logits = 2 * torch.randn(targets, *SHAPE)
        region = (torch.rand(1, *SHAPE) < 0.9).float()
        label = (torch.rand(targets, *SHAPE) < torch.sigmoid(logits)).float()
        label = torch.where(region > 0, label, 1 - label)  # outside, everything is the other way round
        refined = apply_temperature(torch.sigmoid(1.6 * logits)[None], temperature)[0]
        entropy = torch.special.entr(refined) + torch.special.entr(1 - refined)
        maps = {"refined": refined, "prior": refined, "variance": entropy, "entropy": entropy, "label": label}
        cases.append(({"id": name, "region": region}, {"image": logits, **maps}))

    def step(engine: Engine, pair: Any) -> list[Any]:
        engine.state.batch = [pair[0]]
        return [pair[1]]

    engine = Engine(step)
    engine.state = State(device=torch.device("cpu"))
    writer.attach(engine)
    engine.run(cases, max_epochs=1)
    known = {"section": "validation", "temperature": temperature, "checkpoint_sha256": "ab", **facts}
    (folder / "manifest.json").write_text(json.dumps(known))
    return folder


def evaluate_volumes(folder: Path) -> Path:
    """An evaluation of volumes, with its samples replaced by such as a model sure by 0.6 would give."""
    evaluate(folder)
    content = json.loads((folder / "calibration.json").read_text())
    (folder / "calibration.json").write_text(json.dumps({**content, "exclusive": True}))
    (folder / "probabilities").mkdir()
    for name in "abc":
        logits = 2 * torch.randn(20_000, 3)
        label = logits.softmax(1).multinomial(1)[:, 0]
        arrays = {"refined": (0.6 * logits).softmax(1).numpy(), "label": label.to(torch.uint8).numpy()}
        np.savez(folder / "probabilities" / f"{name}.npz", **arrays)
    return folder


@pytest.mark.parametrize("targets", [1, 2])
def test_a_known_temperature_is_found_inside_the_region(tmp_path: Path, targets: int) -> None:
    folder = evaluate(tmp_path, targets=targets)
    result = calibrate_evaluation(folder)
    assert result["temperature"] == pytest.approx(1.6, rel=0.03)
    assert json.loads((tmp_path / "temperature.json").read_text()) == result
    assert (result["n"], result["section"], result["checkpoint_sha256"]) == (3, "validation", "ab")
    inside = sum((np.load(tmp_path / "arrays" / f"{file}.npz")["region"] > 0).sum() for file in _first_files(targets))
    assert result["pixels"] == inside
    assert all(result["after"][score] < result["before"][score] for score in ("ece", "brier", "nll"))
    calibration = read_calibration(folder)
    assert calibration is not None
    pooled = np.mean([target["refined"]["pooled"]["brier"] for target in calibration["targets"]])
    assert result["before"]["brier"] == pytest.approx(pooled, rel=1e-3)
    pooled = np.mean([target["refined"]["pooled"]["nll"] for target in calibration["targets"]])
    assert result["before"]["nll"] == pytest.approx(pooled, rel=1e-3)


def _first_files(targets: int) -> list[str]:
    return [name if targets == 1 else f"{name}_vessel" for name in "abc"]


def test_what_was_scaled_already_gives_the_same_temperature(tmp_path: Path) -> None:
    plain, scaled = (calibrate_evaluation(evaluate(tmp_path / str(t), t)) for t in (1.0, 1.3))
    assert scaled["temperature"] == pytest.approx(plain["temperature"], rel=1e-3)
    assert scaled["temperature_before"] == 1.3
    assert scaled["after"] == pytest.approx(plain["after"], rel=1e-2)  # pixels at an edge change their bin


def test_exclusive_classes_are_fitted_over_the_class_axis(tmp_path: Path) -> None:
    result = calibrate_evaluation(evaluate_volumes(tmp_path))
    assert result["temperature"] == pytest.approx(0.6, rel=0.03)
    assert result["exclusive"] is True and result["pixels"] == 60_000
    assert result["after"]["nll"] < result["before"]["nll"] and result["after"]["ece"] < result["before"]["ece"]


def test_many_pixels_are_drawn_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hidiff_monai.calibration.fit.MOST_PIXELS", 9000)
    result = calibrate_evaluation(evaluate(tmp_path))
    assert result["pixels"] == 9000 and result["temperature"] == pytest.approx(1.6, rel=0.08)


def test_the_verb_prints_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = evaluate(tmp_path / "e"), tmp_path / "t.json"
    capsys.readouterr()
    main(["calibrate", str(folder), "--output", str(output)])
    result, shown = json.loads(output.read_text()), capsys.readouterr().out
    assert f"temperature {result['temperature']:g}, fitted on 3 validation cases, {result['pixels']} pixels" in shown
    assert f"{100 * result['before']['ece']:.4f}" in shown and f"{result['after']['nll']:.4f}" in shown
    advice = shown.splitlines()[-1]
    assert f'"temperature": {result["temperature"]:g} in inference.json of the bundle' in advice
    assert f"--temperature {result['temperature']:g} for evaluations" in advice
    assert "evaluate.json scores any weights and stays at 1.0" in advice
    assert not (folder / "temperature.json").exists()


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("test", "makes their figures too good"),
        ("training", "has seen the training cases"),
        ("unlabeled", "cases that neither trained the network nor judge it"),
        (None, "cases that neither trained the network nor judge it"),
    ],
)
def test_other_sections_are_refused(
    section: str | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", str(evaluate(tmp_path, section=section))])
    error = capsys.readouterr().err
    assert f"section is '{section}'; expected validation cases" in error and "--section validation" in error
    assert reason in error
    assert not (tmp_path / "temperature.json").exists()


def test_a_fit_at_a_bound_names_the_evaluation_and_writes_nothing(tmp_path: Path) -> None:
    folder = evaluate(tmp_path)
    for file in (folder / "arrays").glob("*.npz"):
        arrays = dict(np.load(file))
        np.savez(file, **{**arrays, "label": arrays["refined"] < 0.5})
    with pytest.raises(ValueError, match=rf"{folder.name}: the fit ends at temperature 20; .*labels and checkpoint"):
        calibrate_evaluation(folder)
    assert not (folder / "temperature.json").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = evaluate(tmp_path)
    with pytest.raises(ValueError, match=r"got --output .*, a folder; expected a file: .*temperature\.json"):
        calibrate_evaluation(folder, tmp_path)
    (folder / "arrays" / "b.npz").unlink()
    with pytest.raises(ValueError, match=r"arrays/b\.npz cannot be read .*: evaluate again"):
        calibrate_evaluation(folder)
    (folder / "calibration.json").unlink()
    with pytest.raises(ValueError, match=r"has no calibration\.json; .*: evaluate again"):
        calibrate_evaluation(folder)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="does not say which section was evaluated"):
        calibrate_evaluation(folder)


def test_volumes_whose_labels_lack_classes_are_refused(tmp_path: Path) -> None:
    folder = evaluate(tmp_path)
    file = folder / "cases.json"
    file.write_text(file.read_text().replace("whole image", "whole volume").replace("field of view", "whole volume"))
    with pytest.raises(ValueError, match="volumes without probabilities/"):
        calibrate_evaluation(folder)
