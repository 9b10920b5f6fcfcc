"""The command from end to end, everything tiny; what is complete is not measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from hidiff_monai.benchmark import run as running
from hidiff_monai.benchmark.forms import CLEAN, EMULATION, PACKED, TWIN
from hidiff_monai.benchmark.settings import PARTS, Settings, Unit
from hidiff_monai.cli import main


def test_every_part_runs_and_a_rerun_measures_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    main(["benchmark", "--quick", "--output", str(output)])
    shown = capsys.readouterr().out
    for title in ("Layers", "Refiner", "Whole inference", "Training step", "Growth"):
        assert f"\n{title}" in shown
    content = json.loads((output / "benchmark.json").read_text())
    units = content["units"]
    assert {unit["part"] for unit in units.values()} == set(PARTS)
    assert {PACKED, CLEAN, TWIN, EMULATION} <= set(units["step/10 steps/batch 1/1 threads"]["candidates"])
    growth = units["growth/64^2, 2 samples"]
    assert set(growth["memory"]) == set(growth["candidates"]) == {"compiled", "clean fp32", "eager"}
    assert all(0.05 < peak["before_gib"] <= peak["peak_gib"] < 8 for peak in growth["memory"].values())
    timed = [row for unit in units.values() for row in unit.get("candidates", {}).values()]
    assert all(len(row["times_s"]) == 2 and 0 < row["p10_s"] <= row["median_s"] <= row["p90_s"] for row in timed)
    assert content["machine"]["torch"] and content["machine"]["instruction_set"] in ("avx512", "avx2", "torch")
    assert Image.open(output / "benchmark.png").width > 1000

    monkeypatch.setattr(Unit, "run", property(lambda self: pytest.fail(f"{self.key} is measured again")))
    main(["benchmark", "layers,growth", "step", "--quick", "--output", str(output), "--as_json"])
    assert json.loads(capsys.readouterr().out)["units"] == units


def test_an_interrupted_run_goes_on_behind_the_last_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def plan(settings: Settings) -> list[Unit]:
        def measure(key: str) -> dict:
            if key == "layers/b" and "layers/b" not in measured:
                measured.append(key)
                raise KeyboardInterrupt
            measured.append(key)
            return {"part": "step", "text": [], "width": 8, "image_size": 64}

        return [Unit(f"layers/{name}", lambda name=name: measure(f"layers/{name}")) for name in "abc"]

    monkeypatch.setitem(running.PLANS, "layers", plan)
    with pytest.raises(KeyboardInterrupt):
        running.run_benchmark(["layers"], Settings(), tmp_path)
    assert list(json.loads((tmp_path / "benchmark.json").read_text())["units"]) == ["layers/a"]
    content = running.run_benchmark(["layers"], Settings(), tmp_path)
    assert measured == ["layers/a", "layers/b", "layers/b", "layers/c"]
    assert list(content["units"]) == ["layers/a", "layers/b", "layers/c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tables"], "parts ['tables'] are unknown; expected some of layers, step, inference, training, growth"),
        (["layers", "--width", "6"], "width is 6; expected a multiple of 4"),
        (["layers", "--image_size", "100"], "expected multiples of 32"),
        (["layers", "--threads", "0"], "threads is (0,); expected whole numbers of at least 1"),
        (["layers", "--rounds", "0"], "{'rounds': 0}; expected whole numbers"),
        (["layers", "--output_dir", "x"], "hidiff benchmark has no option --output_dir; expected one of"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["benchmark", *arguments, "--output", str(tmp_path / "out")])
    assert end.value.code == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_tilde_in_the_output_is_one_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        running.PLANS, "step", lambda settings: [Unit("step/text", lambda: {"part": "step", "text": []})]
    )
    running.run_benchmark(["step"], Settings().quick(), "~/results")
    assert (tmp_path / "results" / "benchmark.json").is_file() and not (tmp_path / "~").exists()
