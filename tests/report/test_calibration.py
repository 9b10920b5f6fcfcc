"""The section on probabilities: present or absent, its sentences by hand, its charts."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hidiff_monai.metrics import (
    CaseCalibration,
    ProbabilitySums,
    ReliabilityBins,
    error_retention,
    ideal_curve,
    read_calibration,
    write_calibration,
    write_cases,
)
from hidiff_monai.report.calibration import (
    calibration_section,
    correlation_line,
    mean_curve,
    pooled_bins,
    reliability_line,
    retention_line,
)
from hidiff_monai.report.calibration_charts import errors_caught, reliability_chart, retention_chart
from hidiff_monai.report.evaluation import read_rows
from hidiff_monai.report.html import write_report


@pytest.fixture
def calibrated(evaluation_dir: Path) -> Path:
    """The evaluation as the present version writes it."""
    rows = read_rows(evaluation_dir)
    cases = []
    for number, row in enumerate(rows):
        row |= {"patient": row["case"], "uncertainty": 0.1 + 0.01 * number}
        if row["region"] == "field of view" and row["method"] == "refined":
            arrays = np.load(evaluation_dir / "arrays" / f"{row['case']}.npz")
            inside, truth = arrays["region"] > 0, arrays["label"] > 0
            sums = {
                method: ProbabilitySums.of(torch.from_numpy(arrays[method][inside]), torch.from_numpy(truth[inside]))
                for method in ("prior", "refined")
            }
            retention = error_retention(arrays["entropy"], arrays["refined"] > 0.5, truth, inside)
            cases.append(CaseCalibration(row["case"], "disc", "field of view", sums, retention))
    write_cases(rows, evaluation_dir)
    write_calibration(cases, rows, evaluation_dir, exclusive=False)
    return evaluation_dir


def test_section_stands_after_the_cases_and_holds_the_figures(calibrated, tmp_path, parse):
    text = write_report(tmp_path / "r.html", calibrated, manifest={"temperature": 1.3}).read_text(encoding="utf-8")
    page = parse(text)
    assert page.sections == ["scores", "paired", "cases", "trust", "trajectory", "guide", "manifest"]
    assert "<a href='#trust'>" in text and page.open == []
    found = json.loads((calibrated / "calibration.json").read_text())["targets"][0]
    assert f"4 cases, {found['pixels']:,} pixels, scored over the region “field of view”" in page.text
    assert "scaled with temperature 1.3." in page.text
    for method in ("prior", "refined"):
        assert f"{100 * found[method]['pooled']['ece']:.2f}" in page.text
        assert f"{found[method]['pooled']['brier']:.4f}" in page.text
    assert "4 cases with a mask: too few to say." in page.text
    assert f"{1000 * found['retention']['area']:.3g}" in page.text


def test_an_older_evaluation_leaves_it_out(evaluation_dir, tmp_path, parse):
    text = write_report(tmp_path / "r.html", evaluation_dir).read_text(encoding="utf-8")
    assert "trust" not in parse(text).sections and "#trust" not in text
    assert calibration_section(None, []) == ""


def test_enough_cases_get_a_chart_and_several_structures_a_line_each(calibrated, parse):
    calibration, rows = read_calibration(calibrated), read_rows(calibrated)
    more = [row | {"case": f"{row['case']}{number}"} for row in rows for number in range(2)]
    page = parse(calibration_section(calibration, more))
    assert "Near −1 the doubtful cases are the bad ones" in page.text and "temperature" not in page.text
    assert sum(reference.startswith("data:image/png") for reference in page.references) == 2 * 3
    target = calibration["targets"][0]
    two = {**calibration, "targets": [target, {**target, "target": "c<up>"}]}
    page = parse(calibration_section(two, more + [row | {"target": "c<up>"} for row in more]))
    assert "2 structures together" in page.text and "refined, c<up>" in page.text and page.open == []


def test_bins_of_structures_are_pooled_and_curves_averaged_by_hand():
    targets = [
        {
            "n": n,
            "refined": {"pooled": {"bins": {"counts": counts, "mean_probability": said, "frequency": found}}},
            "retention": {"curve": curve},
        }
        for n, counts, said, found, curve in (
            (1, [8, 0], [0.1, None], [0.0, None], [0.0, 0.4]),
            (3, [2, 5], [0.2, 0.9], [0.5, 0.8], [0.0, 0.8]),
        )
    ]
    bins = pooled_bins(targets, "refined")
    assert bins.counts.tolist() == [10, 5]
    assert bins.mean_probability == pytest.approx([0.12, 0.9]) and bins.frequency == pytest.approx([0.1, 0.8])
    assert mean_curve(targets) == pytest.approx([0, 0.7])


@pytest.mark.parametrize(
    ("frequency", "verdict"),
    [(0.70, "20.0 points too sure"), (0.97, "7.0 points too unsure"), (0.905, "the probabilities are about right")],
)
def test_reliability_in_words(frequency, verdict):
    bins = ReliabilityBins(
        np.linspace(0, 1, 5), np.array([90, 0, 2, 6]), np.array([0.1, np.nan, 0.6, 1.0]), np.full(4, frequency)
    )
    line = reliability_line(bins)
    assert line.startswith("Of pixels with a refined probability above one half, the mean probability is 90.0 %")
    assert verdict in line
    empty = ReliabilityBins(bins.edges, np.array([9, 0, 0, 0]), np.array([0.1] + [np.nan] * 3), bins.frequency)
    assert reliability_line(empty) == "No bin of pixels has a mean refined probability above one half."


def test_retention_in_words():
    curve = ideal_curve(0.1)
    assert errors_caught(curve)[[0, 5, 10, 100]] == pytest.approx([0, 0.5, 1, 1])
    line = retention_line(curve)
    assert "10.00 % of all pixels are wrong" in line and "5 % that the model is least sure of would catch 50 %" in line
    assert "no error" in retention_line(np.zeros(101))


def test_correlation_in_words():
    known = {"spearman": -0.754, "interval": [-0.9, 0.1], "n": 20, "patients": 20}
    line = correlation_line([{"correlation": known}], 0.0)
    assert "is −0.75 (95 % interval −0.90 to +0.10, n = 20)" in line
    line = correlation_line([{"correlation": {**known, "patients": 10}}], 0.0)
    assert "n = 20 of 10 patients)" in line
    unknown = {"spearman": None, "interval": None, "n": 7, "patients": 7}
    assert "undefined" in correlation_line([{"correlation": unknown}], 0.0) and "7 cases" in correlation_line(
        [{"correlation": unknown}], 0.0
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_are_pictures_also_of_a_perfect_model(theme):
    perfect = ReliabilityBins(np.linspace(0, 1, 3), np.array([5, 1]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    for png in (
        reliability_chart({"prior": perfect, "refined": perfect}, theme),
        retention_chart(np.zeros(101), theme),
        retention_chart(ideal_curve(0.2), theme),
    ):
        picture = Image.open(io.BytesIO(png))
        assert picture.size == (1508, 507)
        assert len(set(picture.convert("L").resize((200, 60)).getdata())) > 5
