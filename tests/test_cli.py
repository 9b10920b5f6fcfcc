"""The command `hidiff`: exit codes and messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from hidiff_monai.cli import VERBS, main
from hidiff_monai.data import write_phantoms
from hidiff_monai.metrics import score_case, write_cases


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


def _write_evaluation(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for case in "abc":
        label = np.tri(8, k=ord(case) - ord("a"), dtype=bool)
        for method, share in (("prior", 0.3), ("refined", 0.1)):
            row = {"case": case, "method": method, "region": "whole image", "target": "vessel"}
            rows.append({**row, **score_case(label ^ (rng.random((8, 8)) < share), label)})
    write_cases(rows, folder)


def test_compare_prints_text_json_csv_and_latex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(tmp_path / name) for name in ("seed0", "1")]
    for seed, folder in enumerate(folders):
        _write_evaluation(Path(folder), seed)
    main(["compare", *folders])
    assert "over 2 evaluations" in capsys.readouterr().out
    main(["compare", folders[0], "--format", "json"])
    shown = json.loads(capsys.readouterr().out)
    assert (shown[0]["score"], shown[0]["cases"], shown[0]["seeds"]) == ("dice", 3, 1)
    main(["compare", folders[0], "--format", "csv", "--smaller_than", "60"])
    assert capsys.readouterr().out.startswith("region,target,score,")
    main(["compare", folders[0], "--format", "latex"])
    assert "refined & " in capsys.readouterr().out


def test_compare_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_evaluation(tmp_path, 0)
    for arguments, message in (
        ([str(tmp_path / "nowhere")], "cases.json is missing"),
        ([str(tmp_path), "--format", "word"], "expected a folder and one of"),
        ([], "0 folders"),
        ([str(tmp_path), "--smaller_than", "1"], "raise the limit"),
        ([str(tmp_path), "--smaller_than", "abc"], "--smaller_than is 'abc'; expected a whole number"),
        ([str(tmp_path), "--methods", "prior"], "methods 'prior'; expected two"),
        ([str(tmp_path), str(tmp_path / "." / "")], "a folder is given twice"),
        (["--slices", str(tmp_path)], "--slices takes no value"),
        ([str(tmp_path), "--same_area", "--slices"], "expected it alone"),
        ([str(tmp_path), "--same_area"], "a.npz is missing"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["compare", *arguments])
        assert end.value.code == 1
        assert message in capsys.readouterr().err


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


def test_prepare_prints_what_a_bundle_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        volume = nibabel.Nifti1Image(generator.integers(0, 2, (6, 5, 4), dtype=np.uint8), np.eye(4))
        nibabel.save(volume, tmp_path / f"raw/{folder}/spleen_2.nii.gz")
    output = tmp_path / "prepared"
    main(["prepare", "msd", "--source", str(tmp_path / "raw"), "--output", str(output)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "training: 0 cases, validation: 0 cases, test: 1 cases",
        f"--dataset_dir {output} --datalist_file {output / 'datalist.json'}",
    ]
    main(["check", str(output / "datalist.json"), str(output)])
    assert "0 problem(s) found in 1 cases of" in capsys.readouterr().out


def test_prepare_of_a_broken_download_ends_with_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/liver_1.nii.gz").write_bytes(b"<html>")
    with pytest.raises(SystemExit) as end:
        main(["prepare", "msd", str(tmp_path), str(tmp_path / "out")])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert "liver_1.nii.gz: not readable" in error and "labelsTr/liver_1.nii.gz: no such file" in error
    assert "Traceback" not in error


def test_a_misspelt_option_stops_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["demo", "--outptu", str(tmp_path / "out")])
    assert end.value.code == 1
    assert "hidiff demo has no option --outptu; expected one of --output, --data, --seed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["reproduce", "drive", "in", "out", "--seeds", "0", "1", "2"], "['1', '2'] is more than it takes"),
        (["reproduce", "drive", "in", "out", "--seed", "5"], "got --seed; expected --seeds"),
        (["reproduce", "drive", "in", "out", "--seeds", "0,0"], "expected whole numbers, each once"),
        (["ablate", "drive", "data", "out", "--seeds", "v5"], "seeds are ['v5']; expected whole numbers"),
        (["complexity", "8", "64", "1", "True", "more"], "['more'] is more than it takes"),
        (["complexity", "--width", "0"], "--width is 0; expected a whole number from 1 on"),
        (["publish-check", "bundles/acdc", "--zip"], "--zip has no value"),
        (["predict", "--bundle", "drive", "--input", "x", "--output", ""], "--output has no value"),
        (["check", "a.json", "data", "--as_json", "yes"], "--as_json takes no value, and got 'yes'"),
    ],
)
def test_words_in_the_wrong_place_stop_before_anything_runs(
    line: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == 1 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, "check", interrupt)
    with pytest.raises(SystemExit) as end:
        main(["check"])
    assert end.value.code == 130
    assert "interrupted: run the same line again" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As `hidiff ... | head` is, whose pipe closes before all is written."""
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "hidiff_monai", "complexity", "--width", "8"]
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 1 and "Broken pipe" not in done.stderr and "BrokenPipeError" not in done.stderr


@pytest.mark.parametrize("folder", ["2024_10_15", "1.10", "out#2", "a,b", "[a]", "007"])
def test_a_folder_is_taken_as_it_is_written(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantoms(tmp_path / folder, 1, 1, 1, size=(64, 64), seed=0, progress=False)
    _write_evaluation(tmp_path / folder, seed=0)
    main(["compare", folder, "--format", "json"])
    assert capsys.readouterr().out
    main(["check", f"{folder}/datalist.json", "--dataset_dir", folder, "--as_json"])
    assert json.loads(capsys.readouterr().out) == []
    with pytest.raises(SystemExit):
        main(["calibrate", folder])
    assert capsys.readouterr().err.startswith(f"error: {folder}/manifest.json does not say")


def test_none_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(
            [
                "predict",
                "--bundle",
                "drive",
                "--input",
                str(tmp_path),
                "--output",
                str(tmp_path / "o"),
                "--labels",
                "None",
            ]
        )
    assert "None" not in capsys.readouterr().err


def test_an_error_of_a_library_keeps_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError("image file is truncated")

    monkeypatch.setitem(VERBS, "env", fail)
    with pytest.raises(SystemExit):
        main(["env"])
    assert capsys.readouterr().err == "error: OSError: image file is truncated\n"
