import base64
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.metrics import compare_methods, p_text, summarise, write_cases
from hidiff_monai.report.evaluation import Comparison, compare, read_rows
from hidiff_monai.report.html import featured, headline, verdict, write_report
from hidiff_monai.report.tables import summary_table


def comparison_of(*gains: float, interval: tuple[float, float] | None) -> Comparison:
    prior = np.full(len(gains), 0.8)
    cases = tuple("abcdef"[: len(gains)])
    return Comparison("field of view", cases, prior, prior + np.array(gains), ("vessel",), interval)


@pytest.fixture
def page(evaluation_dir, history, photograph, tmp_path):
    manifest = {"command": "run --x '<script>'", "seed": 0, "versions": {"torch": "2"}}
    path = write_report(tmp_path / "report", evaluation_dir, history, manifest, photograph, "Discs <b>& co</b>")
    return path.read_text(encoding="utf-8")


def test_headline_holds_the_means_of_the_rows(evaluation_dir, page, parse):
    rows = [row for row in json.loads((evaluation_dir / "cases.json").read_text()) if row["region"] == "field of view"]
    prior, refined = (
        100 * np.mean([row["dice"] for row in rows if row["method"] == method]) for method in ("prior", "refined")
    )
    expected = f"On 4 images the refined mask scores Dice {refined:.2f} % against {prior:.2f} % for the prior: "
    text = parse(page).text
    assert expected in text
    low, high = compare(read_rows(evaluation_dir)).interval
    assert f"{100 * low:.2f}".lstrip("-") in text and f"{100 * high:.2f}" in text


def test_headline_claims_no_more_than_the_interval():
    gain = headline(comparison_of(0.02, 0.04, interval=(0.02, 0.04)))
    assert gain == (
        "On 2 images the refined mask scores Dice 83.00 % against 80.00 % for the prior: "
        "a gain of 3.00 points (95 % paired bootstrap interval +2.00 to +4.00)."
    )
    loss = comparison_of(-0.02, -0.04, interval=(-0.04, -0.02))
    assert "a loss of 3.00 points (95 % paired bootstrap interval −4.00 to −2.00)" in headline(loss)
    assert "lowers the mean Dice" in verdict(loss) and "0 of 2 images gain, 2 lose" in verdict(loss)
    unclear = comparison_of(-0.02, 0.04, interval=(-0.02, 0.04))
    assert "a difference of +1.00 points" in headline(unclear) and "gain of" not in headline(unclear)
    assert "do not show" in verdict(unclear)
    single = comparison_of(0.02, interval=None)
    assert headline(single).startswith("On 1 image ") and "interval" not in headline(single)
    assert "nothing follows" in verdict(single)
    one_patient = comparison_of(0.02, 0.04, interval=None)
    assert "All images are of one patient" in verdict(one_patient) and "2 of 2 images gain" in verdict(one_patient)
    touching = replace(loss, interval=(-0.04, 0.0))
    assert "do not show" in verdict(touching) and "loss" not in headline(touching)


def test_sections_stand_in_order(page, parse):
    expected = ["scores", "paired", "cases", "trajectory", "training", "photograph", "guide", "manifest"]
    assert parse(page).sections == expected


def test_sections_without_a_source_are_left_out(evaluation_dir, tmp_path, parse):
    shutil.rmtree(evaluation_dir / "trajectory")
    text = write_report(tmp_path / "r.html", evaluation_dir).read_text(encoding="utf-8")
    assert parse(text).sections == ["scores", "paired", "cases", "guide"]
    assert "#manifest" not in text and "#training" not in text


def test_nothing_is_loaded_from_elsewhere(page, parse):
    references = parse(page).references
    assert len(references) > 10
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert not re.search(r"https?://|url\(|@import|\bfetch\(", page)


def test_every_image_decodes(page, parse):
    images = [reference for reference in parse(page).references if reference.startswith("data:image")]
    # two charts twice, three featured cases, a trajectory, a photograph, four thumbnails
    assert len(images) == 13
    for reference in images:
        Image.open(io.BytesIO(base64.b64decode(reference.split(",")[1], validate=True))).verify()


def test_every_text_is_escaped(page, parse):
    assert "Discs &lt;b&gt;&amp; co&lt;/b&gt;" in page
    assert "a&lt;b&gt;&amp;&#x27;c" in page and "a<b>" not in page
    assert "&#x27;&lt;script&gt;&#x27;" in page
    assert "Seen &lt;elsewhere&gt; &amp; unlabelled." in page
    assert parse(page).open == []


def test_summary_table_equals_summarise(evaluation_dir, parse):
    rows = read_rows(evaluation_dir)
    text = parse(summary_table(rows)).text
    for region in ("field of view", "whole image"):
        for method in ("prior", "refined"):
            summary = summarise([row for row in rows if (row["region"], row["method"]) == (region, method)])
            for name in ("dice", "iou", "recall", "accuracy"):
                assert f"{100 * summary[name]['mean']:.2f} ± {100 * summary[name]['sd']:.2f}" in text
            assert f"{summary['hd95']['mean']:.2f} ± {summary['hd95']['sd']:.2f}" in text
            assert f"{100 * summary['micro']['dice']:.2f}" in text


def test_p_values_and_conventions_stand_in_the_table(evaluation_dir, parse):
    rows = [{**row, "hd95_mm": 0.5 * row["hd95"]} for row in read_rows(evaluation_dir)]
    text = parse(summary_table(rows)).text
    compared = next(score for score in compare_methods([rows]) if score.score == "dice")
    assert f"p, Wilcoxon{p_text(compared.p_value)}" in text and "4 cases" in text
    with_patients = [{**row, "patient": {"01": "A"}.get(row["case"], "B")} for row in rows]
    assert "2 patients" in parse(summary_table(with_patients)).text
    assert "HD95 voxels ↓" in text and "HD95 mm ↓" in text and "TransUNet" not in text
    absent = [{**row, "tp": 0, "fp": 0, "fn": 0} if row["case"] == "01" else row for row in rows]
    assert "Dice, TransUNet's %" in parse(summary_table(absent)).text


def test_undefined_distances_are_counted(evaluation_dir, parse):
    rows = [{**row, "hd95": float("nan")} if row["case"] == "01" else row for row in read_rows(evaluation_dir)]
    assert "3 defined" in parse(summary_table(rows)).text
    assert "undefined" in parse(summary_table([{**row, "hd95": float("nan")} for row in rows])).text


def test_featured_cases_are_best_median_worst():
    assert featured(np.array([0.0, 0.3, -0.1, 0.2, 0.1])) == [("Largest gain", 1), ("Median", 4), ("Largest loss", 2)]
    assert featured(np.array([0.1, 0.2])) == [("Largest gain", 1), ("Smallest gain", 0)]
    assert featured(np.array([-0.2, -0.1])) == [("Best case", 1), ("Largest loss", 0)]
    assert featured(np.array([0.1])) == [("Largest gain", 0)]


def test_table_of_cases_can_be_sorted(page, evaluation_dir):
    arrays = np.load(evaluation_dir / "arrays" / "01.npz")
    inside = arrays["region"] > 0
    uncertainty = arrays["entropy"][inside].sum() / (arrays["refined"][inside] > 0.5).sum()
    assert f"data-value='{uncertainty:.8g}'" in page
    assert page.count("<button type='button'>") == 7


def test_the_uncertainty_of_the_table_is_that_of_the_rows(evaluation_dir, tmp_path):
    """Of a volume the arrays hold a single slice; structures are averaged."""
    rows = [{**row, "uncertainty": 0.125 + 0.25 * (row["case"] == "01")} for row in read_rows(evaluation_dir)]
    write_cases(rows, evaluation_dir)
    page = write_report(tmp_path / "report", evaluation_dir).read_text(encoding="utf-8")
    assert page.count("data-value='0.375'") == 1 and "data-value='0.125'" in page


def test_two_targets_have_arrays_of_their_own(evaluation_dir, tmp_path, parse):
    rows = read_rows(evaluation_dir)
    write_cases([{**row, "target": target} for row in rows for target in ("disc", "cup")], evaluation_dir)
    for path in list((evaluation_dir / "arrays").iterdir()):
        shutil.copy(path, path.with_stem(f"{path.stem}_cup"))
        path.rename(path.with_stem(f"{path.stem}_disc"))
    page = parse(write_report(tmp_path / "r.html", evaluation_dir).read_text(encoding="utf-8"))
    assert "field of view, cup" in page.text
    assert sum(reference.startswith("data:image") for reference in page.references) == 2 + 2 * 3 + 1 + 4


def test_missing_arrays_leave_an_older_report_alone(evaluation_dir, tmp_path):
    path = write_report(tmp_path / "report", evaluation_dir)
    before = path.read_bytes()
    (evaluation_dir / "arrays" / "02.npz").unlink()
    with pytest.raises(ValueError, match=r"(?s)02\.npz is missing.*monai.bundle run"):
        write_report(tmp_path / "report", evaluation_dir)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]


def test_a_folder_that_cannot_be_written(evaluation_dir, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="file: cannot be written"):
        write_report(tmp_path / "file", evaluation_dir)


@pytest.fixture
def two_structures(evaluation_dir):
    """The same evaluation as of two structures, of which the second is absent in the first case, marked nowhere."""
    rows = read_rows(evaluation_dir)
    several = []
    for target in ("liver", "spleen"):
        for row in rows:
            is_absent = target == "spleen" and row["case"] == "01"
            gone = {"tp": 0, "fp": 0, "fn": 0, "hd95": np.nan, "recall": np.nan, "uncertainty": 900.0}
            several.append(
                {**row, "target": target, "patient": "p1", "uncertainty": 0.25, **(gone if is_absent else {})}
            )
    write_cases(several, evaluation_dir)
    for file in sorted((evaluation_dir / "arrays").glob("*.npz")):
        for target in ("liver", "spleen"):
            shutil.copy(file, file.with_name(f"{file.stem}_{target}.npz"))
    return evaluation_dir


def test_a_structure_that_nothing_marked_makes_no_case_unsure(two_structures, tmp_path):
    text = write_report(tmp_path / "r.html", two_structures).read_text(encoding="utf-8")
    line = re.search(r"data-value='01'.*?</tr>", text).group()
    assert line.count("0.250") == 1 and "–" not in line  # what the liver has stands alone, its HD95 and recall, too


def test_pictures_of_several_structures_are_named(two_structures, tmp_path):
    text = write_report(tmp_path / "r.html", two_structures).read_text(encoding="utf-8")
    assert "01, liver: image" in text and "01, spleen: image" in text and "Errors, liver" in text


def test_patients_are_counted_as_patients_on_average_too(two_structures):
    table = summary_table(read_rows(two_structures))
    assert "1 patient<" in table and "case" not in table
