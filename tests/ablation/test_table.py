"""The table and the picture of made-up scores: Dice 60, 70, 80 of the segmentor alone, and so many points more."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.ablation.figure import draw_ablation
from hidiff_monai.ablation.table import Line, format_markdown, score_line
from hidiff_monai.ablation.variants import ALONE, Sampling, Variant


def evaluation(folder: Path, prior: int, refined: int, hd95: float = 5.0) -> Path:
    rows = [
        {"case": case, "patient": case, "method": method, "region": region, "target": "vessel", "hd95": hd95}
        | {"dice": (own + more) / 100, "tp": own + more, "fp": 100 - own - more, "fn": 100 - own - more, "tn": 90}
        for case, own in (("01", 60), ("02", 70), ("03", 80))
        for method, more in (("prior", prior), ("refined", refined))
        for region in ("whole image", "field of view")
    ]
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def lines(tmp_path: Path) -> list[Line]:
    alone = [evaluation(tmp_path / "alone", 0, 0)]
    better, worse = [evaluation(tmp_path / "better", 1, 3, math.nan)], [evaluation(tmp_path / "worse", -1, -2)]
    return [
        score_line(alone, alone, "prior", Variant(ALONE, "segmentor alone")),
        score_line(alone, better, "refined", Variant("v1", "V1", "BCE", False, False, False)),
        score_line(alone, worse, "refined", Variant("v5", "V5"), Sampling("ddim", 10, 16)),
    ]


def test_every_row_is_held_against_the_segmentor_alone_and_its_own_prior(lines: list[Line]) -> None:
    alone, better, worse = lines
    assert (alone.dice, alone.has_refiner) == (pytest.approx(70), False)
    assert (better.prior, better.dice) == (pytest.approx(71), pytest.approx(73))
    assert (better.difference, better.gain) == (pytest.approx(3), pytest.approx(2))
    assert better.interval == (pytest.approx(3), pytest.approx(3))  # every case gains as much
    assert better.hd95_undefined == 1 and math.isnan(better.hd95)
    assert (worse.difference, worse.gain) == (pytest.approx(-2), pytest.approx(-1))


def test_table_says_what_each_row_is_and_what_it_cannot_tell(lines: list[Line]) -> None:
    text = format_markdown(lines)
    assert "| segmentor alone |  |  |  |  |  | 70.00 |  |  |  |  | 5.00 (0.0 %) |" in text
    assert "| V1 | BCE | no | no | no | the bundle's | 71.00 | 73.00 | +3.00 (+3.00 to +3.00)" in text
    assert "| V5 | focal | yes | yes | yes | DDIM, 10 steps, mean of 16 | 69.00 | 68.00 | -2.00" in text
    assert "3 cases of 3 patients, one training a row" in text and "not corrected for the 3 rows" in text
    assert "2 trainings a row" in format_markdown(lines, num_seeds=2)


def test_picture_has_a_row_a_line(lines: list[Line]) -> None:
    few, many = (np.array(Image.open(io.BytesIO(draw_ablation(shown))).convert("RGB")) for shown in (lines[:2], lines))
    assert many.shape[0] > few.shape[0] and many.shape[1] == few.shape[1]
    assert len(np.unique(many.reshape(-1, 3), axis=0)) > 3
