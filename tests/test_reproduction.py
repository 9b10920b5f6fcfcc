"""A table from raw data: prepared once, every seed by itself, all of them compared; mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai import reproduction
from hidiff_monai.cli import main
from hidiff_monai.data import read_datalist


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was trained; each seed's refined mask is better by its number of points."""
    done: list[dict[str, Any]] = []

    def note(bundle: Path, folder: Path, settings: dict[str, Any]) -> Path:
        done.append({"bundle": bundle.name, "folder": folder.name, **settings})
        evaluation = folder / "evaluation_test"
        evaluation.mkdir(parents=True, exist_ok=True)
        rows = [
            {"case": case, "patient": case, "method": method, "region": "whole image", "target": "vessel"}
            | {
                "dice": (tp + more) / 100,
                "tp": tp + more,
                "fp": 100 - tp - more,
                "fn": 100 - tp - more,
                "tn": 90,
            }  # Dice in percent is tp + more
            for method, more in {"prior": 0, "refined": settings["seed"]}.items()
            for case, tp in (("01", 70), ("02", 80), ("03", 75))
        ]
        (evaluation / "cases.json").write_text(json.dumps(rows))
        return evaluation

    monkeypatch.setattr(reproduction, "train_and_evaluate", note)
    return done


def test_seeds_are_compared_together(
    runs: list[dict[str, Any]], drive_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["reproduce", "drive", str(drive_dir), str(tmp_path / "out"), "--seeds", "1,3", "--max_epochs", "5"]
    main(line)
    assert [(run["bundle"], run["folder"], run["seed"], run["max_epochs"]) for run in runs] == [
        ("drive", "seed_1", 1, 5),
        ("drive", "seed_3", 3, 5),
    ]
    assert len(read_datalist(runs[0]["datalist_file"])["test"]) == 20
    shown = capsys.readouterr().out
    assert "+2.00" in shown and (tmp_path / "out" / "comparison.txt").read_text() in shown
    prepared = Path(runs[0]["datalist_file"]).stat().st_mtime_ns
    main(line)
    assert Path(runs[2]["datalist_file"]).stat().st_mtime_ns == prepared
    with pytest.raises(SystemExit):
        main(["reproduce", "chase_db1", str(drive_dir), str(tmp_path / "out")])
    assert "name another output folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["msd", "."], "got dataset 'msd'; expected one of"),
        (["drive", ".", "--seeds", "a"], "seeds are ['a']"),
        (["drive", ".", "--datalist_file", "x.json"], "got ['datalist_file']; expected none of these"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", *arguments[:2], str(tmp_path / "out"), *arguments[2:]])
    assert message in capsys.readouterr().err
