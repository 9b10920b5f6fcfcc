"""`hidiff predict --budget-ms` from end to end: the choice, what is told of it, and what a second run does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hidiff_monai.cli import main
from hidiff_monai.io import hash_file
from hidiff_monai.prediction import Budget, format_summary, load_model, run_prediction
from hidiff_monai.prediction import plan as plan_module
from hidiff_monai.prediction.budget import Cost
from hidiff_monai.prediction.case import read_case
from hidiff_monai.prediction.sampler import SamplerSetting

Arguments = Callable[[str], dict[str, Any]]
DICE = {("prior", 0, 1): 0.5, ("hard", 1, 1): 0.6, ("hard", 3, 1): 0.7, ("ddim", 5, 4): 0.8}
KVASIR_MEGAPIXELS = 32 * 32 / 1e6


@pytest.fixture
def dial(tmp_path: Path, bundle_arguments: Arguments) -> Callable[[str], Path]:
    """Writes a dial for an untrained bundle and returns its folder."""

    def write(name: str) -> Path:
        settings = [dict(zip(("sampler", "steps", "samples"), key, strict=True)) for key in DICE]
        rows = [{**setting, "dice_mean": dice} for setting, dice in zip(settings, DICE.values(), strict=True)]
        content = {"section": "validation", "settings": rows}
        content["checkpoint_sha256"] = hash_file(bundle_arguments(name)["checkpoint"])
        (tmp_path / "dial").mkdir(exist_ok=True)
        (tmp_path / "dial" / "dial.json").write_text(json.dumps(content))
        return tmp_path / "dial"

    return write


@pytest.fixture
def fixed_cost(monkeypatch: pytest.MonkeyPatch) -> list[SamplerSetting]:
    """A machine that needs 10 ms a chain step of 32 x 32 pixels; the list grows with each measurement."""
    measured: list[SamplerSetting] = []

    def measure(model: Any, image: Any, settings: list[SamplerSetting]) -> Cost:
        measured.extend(settings)
        return Cost(0.0, 0.01 / KVASIR_MEGAPIXELS)

    monkeypatch.setattr(plan_module, "measure_cost", measure)
    return measured


@pytest.mark.parametrize(
    ("milliseconds", "samples", "chosen", "estimated_ms"),
    [
        (1000, None, {"sampler": "ddim", "steps": 5, "samples": 4}, 200),
        (199, None, {"sampler": "hard", "steps": 3, "samples": 4}, 150),  # the bundle's 4 chains count
        (199, 1, {"sampler": "hard", "steps": 3, "samples": 1}, 30),
        (60, None, {"sampler": "hard", "steps": 1, "samples": 4}, 50),
    ],
)
def test_a_run_takes_the_best_that_fits_and_says_so(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_photograph: Callable[..., None],
    dial: Callable[[str], Path],
    fixed_cost: list[SamplerSetting],
    milliseconds: float,
    samples: int | None,
    chosen: dict[str, Any],
    estimated_ms: float,
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    manifest = run_prediction(**run, samples=samples, budget=Budget(milliseconds, dial("kvasir_seg")))
    assert {key: manifest[key] for key in chosen} == chosen and manifest["budget"]["dial_section"] == "validation"
    (case,) = manifest["cases"]
    assert case["setting"] == manifest["budget"]["setting"] == chosen
    assert case["estimated_ms"] == pytest.approx(estimated_ms) and 0 < case["inference_ms"] < 1000 * case["seconds"]
    words = SamplerSetting.from_dict(chosen).describe()
    summary = format_summary(manifest, tmp_path / "out")
    assert f"budget {milliseconds} ms a case: {words}, estimated {estimated_ms} ms, measured" in summary
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert f"{milliseconds} ms<small>a case: {words}" in page and f"ms ({words})" in page


def test_the_mask_is_that_of_the_setting_chosen(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_photograph: Callable[..., None],
    dial: Callable[[str], Path],
    fixed_cost: list[SamplerSetting],
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    run: dict[str, Any] = {"source": tmp_path / "in", **bundle_arguments("kvasir_seg")}
    run_prediction(output=tmp_path / "chosen", budget=Budget(199, dial("kvasir_seg")), **run)
    run_prediction(output=tmp_path / "given", steps=3, **run)
    for name in ("x_mask.png", "x_entropy.png"):
        assert (tmp_path / "chosen" / name).read_bytes() == (tmp_path / "given" / name).read_bytes()


def test_where_nothing_fits_one_hard_step_is_taken_with_a_warning(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_photograph: Callable[..., None],
    dial: Callable[[str], Path],
    fixed_cost: list[SamplerSetting],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    with caplog.at_level(logging.WARNING):
        manifest = run_prediction(budget=Budget(0.001, dial("kvasir_seg")), **run)
    assert manifest["budget"]["setting"] == {"sampler": "hard", "steps": 1, "samples": 4}
    assert manifest["budget"]["fits"] is False
    assert (
        "--budget-ms 0.001: nothing fits; one hard step is taken" in caplog.text
        and "estimated to take 50 ms a case; --samples 1" in caplog.text
    )
    assert "1 case(s) took longer than the budget" in format_summary(manifest, tmp_path / "out")


def test_a_larger_case_is_judged_by_its_own_size_and_a_smaller_one_keeps_the_setting(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_volume: Callable[..., np.ndarray],
    dial: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On crops of 32 x 32: 2 slices, which are measured, then 4, 1 and 40."""
    monkeypatch.setattr(plan_module, "measure_cost", lambda *_: Cost(0.0, 0.01 / KVASIR_MEGAPIXELS))
    for name, slices in (("a", 2), ("b", 4), ("c", 1), ("d", 40)):
        write_volume(tmp_path / "in" / f"{name}.nii.gz", shape=(20, 24, slices))
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("acdc")}
    manifest = run_prediction(budget=Budget(310, dial("acdc")), report=False, **run)  # 300 for a: 3 steps and 4 chains
    steps = {case["id"]: (case["setting"]["steps"], case["estimated_ms"]) for case in manifest["cases"]}
    assert steps == {"a": (3, 300), "b": (1, 200), "c": (3, 150), "d": (1, 2000)}
    assert manifest["steps"] == 3 and manifest["budget"]["megapixels"] == pytest.approx(2 * 32 * 32 / 1e6, abs=1e-4)
    assert "2 case(s) were too large for it" in format_summary(manifest, tmp_path / "out")
    capsys.readouterr()
    run_prediction(budget=Budget(110, dial("acdc")), report=False, **run)  # 100 for a, which takes one step
    told = [line for line in capsys.readouterr().err.splitlines() if "too large" in line]
    assert [line.split(":")[0].strip() for line in told] == ["b", "d"] and "does not fit either" in told[1]


def test_a_second_run_keeps_the_choice_and_another_budget_does_all_anew(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_photograph: Callable[..., None],
    dial: Callable[[str], Path],
    fixed_cost: list[SamplerSetting],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed, name in enumerate("ab"):
        write_photograph(tmp_path / "in" / f"{name}.png", seed=seed)
    folder = dial("kvasir_seg")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    first = run_prediction(budget=Budget(199, folder), **run)
    measured = len(fixed_cost)
    (tmp_path / "out" / "b_mask.png").unlink()
    again = run_prediction(budget=Budget(199, folder), **run)
    assert again["done_before"] == 1 and len(fixed_cost) == measured  # nothing is timed again
    assert again["budget"] == first["budget"] and again["cases"][1]["setting"] == first["cases"][1]["setting"]
    other = run_prediction(budget=Budget(60, folder), **run)
    assert other["done_before"] == 0 and len(fixed_cost) == 2 * measured and other["steps"] == 1
    assert run_prediction(**run)["done_before"] == 0  # and without a budget


def test_the_machine_is_timed_on_the_first_case_that_can_be_read(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None], dial: Callable[[str], Path]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    folder = dial("kvasir_seg")
    with pytest.raises(ValueError, match=r"--budget-ms: none of the 1 case\(s\) can be read \(a.png: .*without"):
        run_prediction(budget=Budget(1e6, folder), **run)
    write_photograph(tmp_path / "in" / "b.png")
    manifest = run_prediction(budget=Budget(1e6, folder), **run)
    assert [case["status"] for case in manifest["cases"]] == ["failed", "done"]
    budget = manifest["budget"]
    parts = [budget[f"{name}_ms_per_megapixel"] for name in ("fixed", "step")]
    assert min(parts) >= 0 and max(parts) > 0  # one of them is 0 where the clock was disturbed
    expected = (budget["fixed_ms_per_megapixel"] + 20 * budget["step_ms_per_megapixel"]) * KVASIR_MEGAPIXELS
    assert budget["setting"]["sampler"] == "ddim" and budget["estimated_ms"] == pytest.approx(expected, abs=0.1)


def test_a_volume_is_timed_on_one_batch_of_its_slices(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_volume: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_volume(tmp_path / "in" / "x.nii.gz", shape=(20, 24, 30))
    model = load_model(source=tmp_path / "in", **bundle_arguments("acdc"))
    timed: list[tuple[SamplerSetting, int]] = []
    sampling = model.sampling

    def infer(_: Any, image: Any) -> tuple[dict[str, Any], float]:
        setting = SamplerSetting(str(sampling.sampler), int(sampling.num_inference_steps), int(sampling.num_samples))
        timed.append((setting, image.shape[-1]))
        return {}, setting.chain_steps * 0.5 + 1

    monkeypatch.setattr(plan_module, "infer_case", infer)
    candidates = [SamplerSetting("hard", 1, 4), SamplerSetting("hard", 2, 4), SamplerSetting("hard", 3, 4)]
    cost = plan_module.measure_cost(model, read_case(model, model.items[0]), candidates)
    megapixels = 4 * 32 * 32 / 1e6
    assert cost == pytest.approx(Cost(1 / megapixels, 0.5 / megapixels))
    assert {setting for setting, _ in timed} == {SamplerSetting("hard", 1), SamplerSetting("hard", 2, 4)}
    assert {slices for _, slices in timed} == {4}


@pytest.mark.parametrize("number", [0, -5, "fast", True, float("inf"), float("nan")])
def test_what_is_no_time_is_refused(tmp_path: Path, bundle_arguments: Arguments, number: Any) -> None:
    with pytest.raises(ValueError, match="--budget-ms .*; expected milliseconds a case"):
        run_prediction(source=tmp_path, output=tmp_path, budget=Budget(number), **bundle_arguments("acdc"))


def test_options_that_contradict_are_refused_on_the_command_line(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_photograph: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    arguments = bundle_arguments("kvasir_seg")
    line = ["predict", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    line += [f"--{key}={arguments[key]}" for key in ("bundle", "checkpoint")]
    line += [f"--{key}={value}" for key, value in arguments["overrides"].items()]
    for options, message in (
        (["--budget-ms", "500", "--steps", "2"], "error: --budget-ms 500 with --steps 2; expected one of them"),
        (["--budget-ms", "500", "--num_inference_steps", "2"], "with --num_inference_steps 2; expected one of them"),
        (["--budget-ms", "500", "--network_def#sampler", "ddim"], "with --network_def#sampler ddim; expected one"),
        (["--dial", "x"], "error: --dial x without --budget-ms"),
        (["--budget-ms", "500", "--dial", str(tmp_path / "in")], "in/dial.json is missing"),
        (["--budget-ms", "500"], "kvasir_seg/docs/dial.json: was measured with weights of SHA-256"),
        (["--budget-ms", "500", "--bundle", "kvasir_seg"], "bundles/kvasir_seg/docs/dial.json: was"),  # its name
        (["--bundle", "kvasir"], "error: kvasir is no bundle's folder; expected one with configs/, or one of ['acdc'"),
    ):
        with pytest.raises(SystemExit) as end:
            main([*line, *options])
        assert end.value.code == 1 and message in capsys.readouterr().err
