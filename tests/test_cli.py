"""The command `hidiff`: exit codes and messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from hidiff_monai.cli import main
from hidiff_monai.data import write_phantoms


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    return write_phantoms(tmp_path / "set", 1, 1, 1, size=(64, 64), seed=0, progress=False)


def test_check_of_a_good_folder_says_so(phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(phantoms), str(phantoms.parent)])
    assert "0 problem(s) found in 3 cases of" in capsys.readouterr().out


def test_check_names_every_problem_and_fails(phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = json.loads(phantoms.read_text())["training"][0]
    Image.new("L", (10, 10)).save(phantoms.parent / case["label"])
    with pytest.raises(SystemExit) as end:
        main(["check", str(phantoms), str(phantoms.parent), "--as_json"])
    assert end.value.code == 1
    problems = json.loads(capsys.readouterr().out)
    assert [Path(problem["file"]).name for problem in problems] == [Path(case["label"]).name]
    assert problems[0]["found"] and problems[0]["expected"] and problems[0]["mend"]


def test_a_mistake_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", str(tmp_path / "nowhere.json"), str(tmp_path)])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "nowhere.json" in error
    assert "Traceback" not in error


def test_complexity_shows_both_twins(capsys: pytest.CaptureFixture[str]) -> None:
    main(["complexity", "--width", "4", "--image_size", "64"])
    shown = capsys.readouterr().out
    assert "binarized" in shown and "real-valued" in shown


def test_complexity_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["complexity", "--width", "4", "--image_size", "64", "--as_json"])
    counts = json.loads(capsys.readouterr().out)
    assert counts["binarized"]["parameters"]["binary"] > 0 == counts["real-valued"]["parameters"]["binary"]


def test_a_misspelt_option_stops_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["demo", "--outptu", str(tmp_path / "out")])
    assert end.value.code == 1
    assert "hidiff demo has no option --outptu; expected one of --output, --data, --seed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
