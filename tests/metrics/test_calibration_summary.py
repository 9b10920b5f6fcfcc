"""calibration.json: pooled and per case by hand, and read as it was written."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hidiff_monai.metrics import CaseCalibration, ProbabilitySums, error_retention, read_calibration, write_calibration

LABEL = np.array([[1, 1, 0, 0]])
PROBABILITIES = {"a": [[0.91, 0.71, 0.31, 0.11]], "b": [[0.91, 0.11, 0.71, 0.11]]}  # right, and two errors


def make_case(name: str, target: str = "vessel") -> CaseCalibration:
    refined = np.array(PROBABILITIES[name])
    prior = np.full(refined.shape, 0.51)
    truth = torch.from_numpy(LABEL > 0)
    sums = {
        method: ProbabilitySums.of(torch.from_numpy(values), truth)
        for method, values in (("prior", prior), ("refined", refined))
    }
    retention = error_retention(refined * (1 - refined), refined > 0.5, LABEL)
    return CaseCalibration(name, target, "whole image", sums, retention)


def make_row(name: str, dice: float, uncertainty: float, **others: Any) -> dict[str, Any]:
    known = {"target": "vessel", "region": "whole image", "method": "refined", "patient": name, "tp": 1, "fp": 1}
    return {"case": name, "dice": dice, "uncertainty": uncertainty, **known, **others}


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    rows = [make_row("a", 1.0, 0.2), make_row("b", 0.5, 0.4), make_row("a", 0.3, 0.0, method="prior")]
    write_calibration([make_case("a"), make_case("b")], rows, tmp_path, exclusive=False)
    found = read_calibration(tmp_path)
    assert found is not None
    return found


def test_pooled_and_mean_over_cases_by_hand(written: dict[str, Any]) -> None:
    (target,) = written["targets"]
    assert (target["target"], target["region"], target["n"], target["pixels"]) == ("vessel", "whole image", 2, 8)
    refined = target["refined"]
    squares = {"a": [0.09, 0.29, 0.31, 0.11], "b": [0.09, 0.89, 0.71, 0.11]}
    brier = {name: np.mean(np.square(gaps)) for name, gaps in squares.items()}
    assert refined["pooled"]["brier"] == pytest.approx(np.mean([*brier.values()]), rel=1e-5)
    assert refined["mean_over_cases"]["brier"]["mean"] == pytest.approx(np.mean([*brier.values()]), rel=1e-5)
    assert refined["mean_over_cases"]["brier"]["sd"] == pytest.approx(np.std([*brier.values()], ddof=1), rel=1e-5)
    # pooled bins: 0.11 of 3 pixels, one of them structure; 0.31 none of 1; 0.71 one of 2; 0.91 both
    ece = (3 * abs(0.11 - 1 / 3) + 0.31 + 2 * abs(0.71 - 1 / 2) + 2 * 0.09) / 8
    assert refined["pooled"]["ece"] == pytest.approx(ece, rel=1e-5)
    cases = [np.mean(squares[name]) for name in "ab"]
    cases[1] = (2 * abs(0.11 - 1 / 2) + 0.71 + 0.09) / 4
    assert refined["mean_over_cases"]["ece"]["mean"] == pytest.approx(np.mean(cases), rel=1e-5)
    assert target["prior"]["pooled"]["ece"] == pytest.approx(0.01, rel=1e-4)
    bins = refined["pooled"]["bins"]
    assert [bins["counts"][place] for place in (2, 6, 14, 18)] == [3, 1, 2, 2] and sum(bins["counts"]) == 8
    assert bins["frequency"][14] == 0.5 and bins["frequency"][0] is None


def test_retention_is_the_mean_over_cases(written: dict[str, Any]) -> None:
    retention = written["targets"][0]["retention"]
    assert retention["error_rate"] == 0.25 and retention["ideal_area"] == 0.5**2 / 2 / 2
    assert retention["random_area"] == 0.5 / 2 / 2
    areas = [record["retention"]["area"] for record in written["cases"]]
    assert areas[0] == 0 and retention["area"] == pytest.approx(np.mean(areas))
    assert len(retention["curve"]) == 101 and retention["curve"][-1] == 0.25
    assert [record["case"] for record in written["cases"]] == ["a", "b"]


def test_correlation_is_of_the_refined_masks_that_are_not_empty(tmp_path: Path) -> None:
    rows = [make_row(name, dice, 1 - dice) for name, dice in zip("abcdef", np.linspace(0.5, 0.9, 6), strict=True)]
    rows += [make_row("g", 1.0, 50.0, tp=0, fp=0), make_row("a", 0.2, 0.2, method="prior")]
    write_calibration([make_case("a"), make_case("a", "other")], rows, tmp_path, exclusive=True)
    found = json.loads((tmp_path / "calibration.json").read_text())
    assert found["exclusive"] is True
    vessel, other = (target["correlation"] for target in found["targets"])
    assert vessel == {"n": 6, "patients": 6, "spearman": -1.0, "interval": [-1.0, -1.0]}
    assert other == {"n": 0, "patients": 0, "spearman": None, "interval": None}


def test_a_folder_without_the_file_has_no_calibration(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"targets": []}'])
def test_a_spoilt_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match=r"calibration\.json .*: evaluate again, or remove it"):
        read_calibration(tmp_path)


def test_one_case_has_no_spread(tmp_path: Path) -> None:
    write_calibration([make_case("a")], [make_row("a", 1.0, math.nan)], tmp_path, exclusive=False)
    found = read_calibration(tmp_path)
    assert found is not None
    assert found["targets"][0]["refined"]["mean_over_cases"]["ece"]["sd"] is None
