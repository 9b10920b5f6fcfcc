"""What is written can be read back, a failed write loses nothing, and the table lines up."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hidiff_monai.metrics import format_table, read_cases, score_case, summarise, table, write_cases, write_summary

Rows = list[dict[str, Any]]


def refuse(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def strict_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture
def rows() -> Rows:
    """Three cases, two methods, two regions; "c" is an empty label with a false alarm: HD95 and recall undefined."""
    rng = np.random.default_rng(4)
    labels = {"a": rng.random((12, 14)) < 0.3, "b": rng.random((12, 14)) < 0.6, "c": np.zeros((12, 14), dtype=bool)}
    field = np.pad(np.ones((8, 10), dtype=bool), 2)

    def row(case: str, method: str, region: str, limit: np.ndarray | None) -> dict[str, Any]:
        flipped = rng.random((12, 14)) < 0.1
        scores = score_case(labels[case] ^ flipped, labels[case], limit)
        return {"case": case, "method": method, "region": region, **scores}

    return [
        row(case, method, region, limit)
        for region, limit in (("whole image", None), ("field of view", field))
        for method in ("prior", "refined")
        for case in labels
    ]


def test_cases_survive_the_round_trip(rows: Rows, tmp_path: Path) -> None:
    write_cases(rows, tmp_path / "new" / "folder")
    back = read_cases(tmp_path / "new" / "folder")
    assert [list(row) for row in back] == [list(row) for row in rows]
    for row, other in zip(rows, back, strict=True):
        np.testing.assert_equal(other, row)
    assert any(math.isnan(row["hd95"]) for row in back)


def test_files_hold_null_and_empty_cells_not_nan(rows: Rows, tmp_path: Path) -> None:
    write_cases(rows, tmp_path)
    write_summary(rows, tmp_path)
    cases = strict_json(tmp_path / "cases.json")
    assert (cases[2]["case"], cases[2]["hd95"], cases[2]["recall"]) == ("c", None, None)
    with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert (lines[2]["case"], lines[2]["hd95"]) == ("c", "")
    assert [float(line["dice"]) for line in lines] == [row["dice"] for row in rows]
    strict_json(tmp_path / "summary.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.csv", "cases.json", "summary.json", "table.txt"]


def test_summary_holds_one_group_a_region_and_method(rows: Rows, tmp_path: Path) -> None:
    write_summary(rows, tmp_path)
    groups = strict_json(tmp_path / "summary.json")["groups"]
    assert [(group["region"], group["method"]) for group in groups] == [
        ("whole image", "prior"),
        ("whole image", "refined"),
        ("field of view", "prior"),
        ("field of view", "refined"),
    ]
    expected = summarise(rows[3:6])
    assert groups[1]["dice"] == pytest.approx(expected["dice"])
    assert groups[1]["micro"] == pytest.approx(expected["micro"])
    assert groups[1]["hd95"]["nan_ratio"] == pytest.approx(1 / 3)
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") == format_table(rows) + "\n"


def test_a_failed_write_keeps_the_earlier_files(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cases(rows, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="JSON"):
        write_cases([{**rows[0], "hd95": math.inf}], tmp_path)
    with pytest.raises(ValueError, match="no rows to write"):
        write_cases([], tmp_path)

    def full_disk(path: Path, text: str, **options: str) -> int:
        path.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(table.Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_cases(rows[:1], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_table_by_hand() -> None:
    """Dice 1 and 2/3: mean 83.33 ± 23.57; pooled 2 · 24 / (2 · 24 + 8) = 85.71."""
    square, half = np.zeros((10, 12), dtype=bool), np.zeros((10, 12), dtype=bool)
    square[2:6, 2:6] = half[2:6, 4:6] = True
    group = {"method": "prior", "region": "all"}
    rows = [{"case": name, **group, **score_case(mask, square)} for name, mask in (("a", square), ("b", half))]
    lines = format_table(rows).splitlines()
    assert lines[0] == "all"
    assert " ".join(lines[1].split()) == "Dice % IoU % recall % accuracy % HD95 voxels HD95 NaN ratio n"
    expected = "prior mean ± sd 83.33 ± 23.57 75.00 ± 35.36 75.00 ± 35.36 96.67 ± 4.71 1.00 ± 1.41 0.00 % 2"
    assert " ".join(lines[2].split()) == expected
    assert " ".join(lines[3].split()) == "micro 85.71 75.00 75.00 96.67"


def test_table_lines_up(rows: Rows) -> None:
    lines = format_table(rows).splitlines()
    headers = [line for line in lines if "Dice %" in line]
    scores = [line for line in lines if "mean ± sd " in line and line.startswith("  ")]
    assert len(headers) == 2 and len(scores) == 4
    assert {line.index("±", 25) for line in scores} == {scores[0].index("±", 25)}
    assert {len(line) for line in scores} == {len(scores[0])}
    assert max(map(len, lines)) <= 120


def test_footer_names_conventions_and_undefined_cases(rows: Rows) -> None:
    text = format_table(rows)
    assert "Both masks empty: Dice = IoU = recall = 1" in text
    assert "the larger of the two directed 95th percentiles" in text
    assert "counted, not scored" in text
    assert "33.33 %" in text
    assert "Recall (whole image, prior): mean over the 2 of 3 cases where it is defined." in text


def test_targets_are_summarised_apart_and_spacing_shows_its_unit(rows: Rows) -> None:
    named = [{**row, "target": target, "hd95_mm": 3 * row["hd95"]} for target in ("liver", "spleen") for row in rows]
    text = format_table(named)
    assert "prior, liver" in text and "refined, spleen" in text
    assert "HD95 voxels" in text and "HD95 mm" in text
    mean = summarise(named[:3])["hd95"]["mean"]
    assert f"{mean:6.2f} ± " in text and f"{3 * mean:6.2f} ± " in text
    assert len([line for line in text.splitlines() if line.endswith(" 3")]) == 8


def test_a_metric_undefined_in_every_case_is_said_so() -> None:
    empty = np.zeros((5, 5), dtype=bool)
    line = format_table([{"case": "a", "method": "prior", "region": "all", **score_case(empty, empty)}]).splitlines()[2]
    assert "undefined" in line and "100.00 %" in line and "100.00 ±     -" in line
