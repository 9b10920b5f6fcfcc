"""The order of an ablation's runs, what a second call keeps, its table and picture; mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from hidiff_monai.ablation import runs as ablation_runs
from hidiff_monai.ablation.variants import VARIANTS
from hidiff_monai.cli import main
from hidiff_monai.io.errors import find_value_error

POINTS = {"pretraining": 0, "segmentor_alone": 1, "v1": 2, "v5": 4}  # Dice of the refined mask above 70


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ran; a training leaves weights, an evaluation three cases."""
    done: list[dict[str, Any]] = []

    def note(run_id: str, config_files: list[str], settings: dict[str, Any]) -> None:
        last = json.loads(Path(config_files[-1]).read_text())
        folder = Path(settings["output_dir"])
        done.append({"run": run_id, "name": folder.name, "file": last, **settings})
        if run_id == "training":
            (folder / "models").mkdir(parents=True)
            (folder / "models" / "model.pt").write_bytes(b"")
            return
        points = POINTS.get(folder.name, 3)
        rows = [
            {"case": case, "patient": case, "method": method, "region": "whole image", "target": "vessel"}
            | {"dice": tp / 100, "tp": tp, "fp": 100 - tp, "fn": 100 - tp, "tn": 90, "hd95": 5.0}
            for case, own in (("01", 60), ("02", 70), ("03", 80))
            for method, tp in (("prior", own + min(points, 1)), ("refined", own + points))
        ]
        evaluation = Path(settings["evaluation_dir"])
        evaluation.mkdir(parents=True)
        (evaluation / "cases.json").write_text(json.dumps(rows))
        (evaluation / "summary.json").write_text("{}")

    monkeypatch.setattr(ablation_runs, "run_bundle", note)
    return done


def line(output: Path, *more: str) -> list[str]:
    return ["ablate", "drive", "--output_dir", str(output), "--pretrain_epochs", "4", "--max_epochs", "10", *more]


def test_all_variants_start_from_one_segmentor_and_end_in_one_table(
    runs: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(line(tmp_path, "--variants", "v1,v5"))
    assert "segmentor_alone, discriminative" in capsys.readouterr().out  # that are missing
    assert not (tmp_path / "ablation.md").exists()
    main(line(tmp_path))
    trained = {entry["name"]: entry for entry in runs if entry["run"] == "training"}
    assert list(trained)[:3] == ["pretraining", "v1", "v5"] and len(trained) == len(VARIANTS) + 1
    phases = {name: (entry["pretrain_epochs"], entry["max_epochs"]) for name, entry in trained.items()}
    assert phases.pop("pretraining") == (4, 4)
    assert phases.pop("segmentor_alone") == (6, 6)
    assert set(phases.values()) == {(0, 6)}
    assert all(entry["file"]["alternation#segmentor_epochs"] is None for entry in trained.values())
    starts = {entry["file"]["pretrained_segmentor"] for name, entry in trained.items() if name != "pretraining"}
    assert len(starts) == 1 and str(tmp_path / "seed_0" / "pretraining" / "models" / "model.pt") in starts.pop()
    count = len(runs)
    assert count == 1 + len(VARIANTS) + 1 + sum(len(variant.samplings) for variant in VARIANTS)

    text = (tmp_path / "ablation.md").read_text()
    assert text in capsys.readouterr().out
    rows = {row["title"]: row for row in json.loads((tmp_path / "ablation.json").read_text())["rows"]}
    assert rows["V1"]["dice"] == pytest.approx(72) and rows["V1"]["difference"] == pytest.approx(1)
    assert rows["V5, HiDiff"]["gain"] == pytest.approx(3)
    chains = [entry for entry in runs if entry["name"] == "v5" and entry["run"] == "run"]
    assert chains[-1]["file"]["sampler"] == "ddpm" and chains[-1]["file"]["num_samples"] == 16
    assert chains[-1]["file"]["report"] == "@manifest" and "accelerate" in str(chains[-1]["file"])
    assert "accelerate(" not in str(next(entry for entry in runs if entry["name"] == "gaussian")["file"])

    main(line(tmp_path))
    assert len(runs) == count  # all was kept


def test_a_folder_may_hold_what_monai_reads_as_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Homes of a Windows domain are called ann@corp.com."""
    bundle = Path(__file__).parents[2] / "bundles" / "drive"
    seed_runs = ablation_runs.SeedRuns(bundle, tmp_path / "ann@corp.com", "test", {"alternating_epochs": 1}, {})
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(seed_runs, "_train", lambda name, configuration, phases: written.append(configuration))
    monkeypatch.setattr(seed_runs, "_evaluate", lambda *_: None)
    seed_runs.train(next(variant for variant in VARIANTS if variant.is_standard))
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "train.json")
    imports = [*parser.get("imports"), *written[0].pop("+imports")]
    parser.update({**written[0], "imports": imports, "device": torch.device("cpu")})
    with pytest.raises(RuntimeError) as found:
        parser.get_parsed_content("network")
    told = str(find_value_error(found.value))
    assert "ann@corp.com" in told and "there is no such checkpoint" in told  # which is the only complaint
