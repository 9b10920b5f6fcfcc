import base64
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.metrics import rank_correlation
from hidiff_monai.report import write_prediction_report
from hidiff_monai.report.prediction import headline, verdict
from hidiff_monai.report.prediction_cases import by_doubt, case_dice

NASTY = "x'<script>alert(1)</script>&\""


def png_of(side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 199)).save(buffer, format="png")
    return buffer.getvalue()


def done(name, uncertainty=0.1, dice=None, is_hard=False, reasons=(), **more):
    classes = [
        {"name": "left <b>", "pixels": 2000, "ml": 8.0, "prior_pixels": 1000, "dice": dice},
        {"name": "right", "pixels": 0, "ml": 0.0, "prior_pixels": 0, "dice": None},
    ]
    return {
        "id": name,
        "status": "done",
        "error": None,
        "input": {"files": [f"{name}.nii.gz"], "format": "nifti"},
        "outputs": {"mask": f"{name}_mask.nii.gz", "uncertainty": f"{name}_entropy.nii.gz"},
        "shape": [20, 30, 10],
        "spacing_mm": [1.5, 1.5, 8.0],
        "classes": classes,
        "uncertainty": uncertainty,
        "verdict": {
            "agreement": 0.97,
            "changed_pixels": 1420,
            "changed_share": 0.034,
            "where": "slices 3 to 8, most in slice 5",
            "looks_hard": is_hard,
            "reasons": list(reasons),
        },
        "slice": 5,
        "seconds": 1.9,
        **more,
    }


def failed(name, error="cannot be read"):
    return {"id": name, "status": "failed", "error": error, "input": {"files": [f"{name}.nii.gz"], "format": "nifti"}}


def manifest_of(*cases):
    facts = {"created": "2025-06-01T10:00:00+00:00", "bundle": "acdc", "task": "Hearts & more", "seconds": 12.3}
    return {**facts, "checkpoint_sha256": "9f" * 32, "hard_uncertainty": None, "cases": list(cases)}


@pytest.fixture
def write(tmp_path):
    """Writes a page of these cases, each with a picture, and returns its text."""

    def write_page(*cases, **facts):
        pictures = {case["id"]: png_of() for case in cases if case["status"] == "done"}
        return write_prediction_report(tmp_path, {**manifest_of(*cases), **facts}, pictures).read_text(encoding="utf-8")

    return write_page


def names_in_table(text):
    return re.findall(r"<td class='text' data-value='([^']*)'><a href='#case-\d+'>", text)


def test_the_most_uncertain_case_stands_first_and_the_links_meet_the_pictures(write):
    text = write(done("a", 0.1), done("empty", None), done("b", 0.3), failed("x"), done("c", 0.2))
    assert names_in_table(text) == ["b", "c", "a", "empty"]
    assert re.findall(r"href='#(case-\d+)'", text) == re.findall(r"<summary id='(case-\d+)'", text)
    assert re.findall(r"<span class='name'>(\w+)</span>", text) == ["b", "c", "a", "empty"]
    head = re.search(r"<th[^>]*aria-sort='descending'[^>]*><button type='button'>([^<]*)", text)
    assert head[1] == "Uncertainty"
    assert "1 case with an empty mask, so without a value, at the end" in text


def test_lines_hold_what_the_manifest_says(write, parse):
    text = write(done("a", 0.1234, dice=0.5, is_hard=True, reasons=["too <i>odd</i>"]))
    page = parse(text)
    for part in ("0.123", "97.0", "3.4", "8.0", "50.0", "+100.00", "2 000", "1 420 voxels, slices 3 to 8"):
        assert part in page.text
    assert "20 × 30 × 10 voxels, 1.5 × 1.5 × 8 mm" in page.text and "slice 5, counted from 0" in page.text
    assert "too <i>odd</i>" in page.text and "<i>" not in text
    assert "9f" * 32 in page.text and "<th scope='row'>cases</th>" not in text


def test_every_text_is_escaped(write, parse):
    text = write(done(NASTY), failed(NASTY, error="<img src=x onerror=alert(1)>"), task="<b>hearts</b>")
    assert "<script>alert" not in text and "<img src=x" not in text and "<b>" not in text
    page = parse(text)
    assert page.open == [] and page.text.count(NASTY) >= 3 and "<img src=x onerror=alert(1)>" in page.text


def test_nothing_is_loaded_and_links_lead_to_the_files_beside_the_page(write, parse):
    text = write(
        done("a b#c%", outputs={"mask": "a b#c%_mask.nii.gz", "uncertainty": "javascript:alert(1)"}),
        done("https://elsewhere.org/x"),
    )
    references = parse(text).references
    assert all(reference.startswith(("data:", "#", "./")) for reference in references)
    assert "./a%20b%23c%25_mask.nii.gz" in references and "./javascript%3Aalert%281%29" in references
    assert not re.search(r"url\(|@import|\bfetch\(", text)
    assert "default-src 'none'" in text


def test_every_picture_is_in_the_page(tmp_path, parse):
    (tmp_path / "b.png").write_bytes(png_of(9))
    pictures = {"a": png_of(7), "b": tmp_path / "b.png"}
    path = write_prediction_report(tmp_path / "out", manifest_of(done("a"), done("b"), done("c")), pictures)
    text = path.read_text(encoding="utf-8")
    images = [reference for reference in parse(text).references if reference.startswith("data:image")]
    assert {Image.open(io.BytesIO(base64.b64decode(image.split(",")[1]))).width for image in images} == {7, 9}
    assert text.count("loading='lazy'") == 2 and text.count("There is no picture of this case.") == 1
    assert path == tmp_path / "out" / "index.html" and [file.name for file in path.parent.iterdir()] == ["index.html"]


def test_failures_come_first_with_their_errors(write, parse):
    text = write(done("a"), failed("x", "x.nii.gz: truncated;\nexpected 4 bytes: copy it anew"))
    page = parse(text)
    assert page.sections == ["failed", "cases", "pictures", "guide", "manifest"]
    assert "x.nii.gz: truncated; expected 4 bytes: copy it anew" in page.text
    assert names_in_table(text) == ["a"]


def test_a_run_where_all_failed(write, parse):
    page = parse(write(failed("x"), failed("y")))
    assert page.sections == ["failed", "guide", "manifest"]
    assert "None of the 2 cases could be predicted." in page.text and "no masks to look at" in page.text


def test_a_run_of_one_case(write, parse):
    text = write(done("only"))
    page = parse(text)
    assert "1 case was predicted; it does not look hard." in page.text
    assert "Open all" not in page.text and text.count("<details") == text.count("data-hard='0' open>") == 1


def test_a_page_of_200_cases_stays_usable(write, tmp_path):
    text = write(*[done(f"case {i:03d}", i / 1000, dice=0.9 - i / 1000, is_hard=i > 150) for i in range(200)])
    assert text.count("<details") == 200 and len(re.findall(r"data-hard='\d' open>", text)) == 3
    charts = sum(len(chart) for chart in re.findall(r"src(?:set)?='data:image/png[^']*'", text))
    assert len(text) - charts < 200 * 4000 and "Only cases that look hard (49)" in text
    assert names_in_table(text)[0] == "case 199"


def test_the_filter_is_only_there_where_it_filters(write):
    assert "id='only-hard'>" in write(done("a"), done("b", is_hard=True))
    assert "id='only-hard' disabled>" in write(done("a"), done("b"))


def test_headline_claims_no_more_than_is_there():
    hard = done("h", is_hard=True)
    said = {
        "There was no case.": [],
        "The one case could not be predicted.": [failed("x")],
        "1 case was predicted; it looks hard.": [hard],
        "2 cases were predicted; none looks hard.": [done("a"), done("b")],
        "2 cases were predicted, 1 failed; 1 looks hard.": [done("a"), hard, failed("x")],
        "2 cases were predicted; 2 look hard.": [hard, hard],
    }
    for sentence, cases in said.items():
        assert headline({"cases": cases}) == sentence
    assert headline({"cases": [hard], "planned": 4}).endswith("The run stopped with 3 cases to go.")
    assert "no labels, so nothing here measures" in verdict([hard])
    assert "the case with a label the refined mask's mean Dice is 80.0 %" in verdict([hard, done("a", dice=0.8)])


def test_dice_is_the_mean_over_the_structures_that_have_one():
    case = done("a", dice=0.8)
    assert case_dice(case) == 0.8
    case["classes"][1]["dice"] = 0.4
    assert case_dice(case) == pytest.approx(0.6)
    assert math.isnan(case_dice(done("b")))


def test_without_labels_there_is_no_dice(write, parse):
    assert "Dice %" not in parse(write(done("a"), done("b"))).text


@pytest.mark.parametrize(("count", "has_chart"), [(4, False), (5, True)])
def test_uncertainty_is_set_against_dice_from_five_labels_on(write, parse, count, has_chart):
    page = parse(write(*[done(f"{i} $x$", i / 10, dice=0.9 - i / 10) for i in range(count)]))
    assert ("meaning" in page.sections) == has_chart
    assert ("of uncertainty and Dice over these 5 cases is −1.00" in page.text) == has_chart


def test_rank_correlation_of_what_does_not_vary_is_undefined(write, parse):
    assert math.isnan(rank_correlation(np.ones(3), np.arange(3)))
    assert "is undefined" in parse(write(*[done(str(i), 0.1, dice=0.5) for i in range(5)])).text


def test_photographs_have_pixels_and_no_slice(write, parse):
    classes = [{"name": "polyp", "pixels": 500, "ml": None, "prior_pixels": 0, "dice": None}]
    photograph = {"shape": [40, 50], "spacing_mm": None, "classes": classes, "slice": None}
    photograph |= {"input": {"files": ["a.jpg"], "format": "image"}}
    text = parse(write(done("a", **photograph))).text
    assert "polyp, pixels" in text and "40 × 50 pixels" in text
    assert "counted from 0" not in text and "Of a volume one slice" not in text and "Size, ml" not in text


def test_many_structures_stand_in_the_cards_only(write):
    classes = [{"name": f"s{i}", "pixels": 1, "ml": 1.0, "prior_pixels": 1, "dice": None} for i in range(13)]
    text = write(done("a", classes=classes))
    assert "s12, ml" not in text and "<th scope='row'>s12</th>" in text


def test_a_series_is_named_by_its_first_file(write, parse):
    series = {"files": [f"{i}.dcm" for i in range(24)], "format": "dicom"}
    assert "0.dcm and 23 more (DICOM)" in parse(write(done("a", input=series))).text


def test_order_is_stable_and_leaves_failures_out():
    cases = [done("a", 0.2), failed("x"), done("b", 0.2), done("c", None), done("d", 0.0)]
    assert [case["id"] for case in by_doubt(cases)] == ["a", "b", "d", "c"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="file: cannot be written"):
        write_prediction_report(tmp_path / "file", manifest_of(), {})
