"""Means, differences and tests worked out again from the raw scores, with NumPy and SciPy."""

import csv
import io
import json
import math

import numpy as np
import pytest
from scipy import stats

from hidiff_monai.metrics import (
    compare_methods,
    comparison_csv,
    comparison_json,
    format_comparison,
    latex_rows,
    paired_bootstrap,
    score_case,
    select_small,
)

NUM_CASES = 8


def _evaluation(seed, targets=("vessel",), absent=()):
    """Noisy masks, the refined ones less so; `absent`: (target, case) with an empty label and prediction."""
    rng, rows = np.random.default_rng(seed), []
    for case in range(NUM_CASES):
        for target in targets:
            label = np.zeros((12, 12), bool)
            label[2 : 4 + case % 4, 3:9] = True
            for method, share in (("prior", 0.15), ("refined", 0.08)):
                prediction = label ^ (rng.random(label.shape) < share)
                is_absent = (target, case) in absent
                scores = score_case(prediction & (not is_absent), label & (not is_absent))
                row = {"case": f"c{case}", "method": method, "region": "whole image", "target": target}
                rows.append({**row, **scores})
    return rows


def _values(rows, method, score="dice", target="vessel"):
    return np.array([row[score] for row in rows if (row["method"], row["target"]) == (method, target)])


def _find(compared, score, target="vessel"):
    return next(one for one in compared if (one.score, one.target) == (score, target))


def test_one_evaluation_against_numpy_and_scipy():
    rows = _evaluation(0)
    compared = compare_methods([rows])
    for score, scale in (("dice", 100), ("iou", 100), ("hd95", 1), ("accuracy", 100)):
        before, after = (scale * _values(rows, method, score) for method in ("prior", "refined"))
        one = _find(compared, score)
        assert one.means == pytest.approx((before.mean(), after.mean()))
        assert one.sds == pytest.approx((before.std(ddof=1), after.std(ddof=1)))
        assert one.difference == pytest.approx(np.mean(after - before))
        assert one.p_value == pytest.approx(stats.wilcoxon(before, after).pvalue)
        assert one.interval == pytest.approx(paired_bootstrap(after - before))
        assert (one.cases, one.seeds, one.unit) == (NUM_CASES, 1, "voxels" if score == "hd95" else "%")


def test_several_seeds_give_the_spread_of_their_means_and_test_the_mean_of_each_case():
    evaluations = [_evaluation(seed) for seed in range(3)]
    one = _find(compare_methods([evaluations[0], evaluations[1][::-1], evaluations[2]]), "dice")
    before, after = (100 * np.array([_values(rows, name) for rows in evaluations]) for name in ("prior", "refined"))
    assert one.means == pytest.approx((before.mean(), after.mean()))
    assert one.sds == pytest.approx((before.mean(axis=1).std(ddof=1), after.mean(axis=1).std(ddof=1)))
    assert one.p_value == pytest.approx(stats.wilcoxon(after.mean(axis=0), before.mean(axis=0)).pvalue)
    assert (one.cases, one.seeds) == (NUM_CASES, 3)


def test_an_absent_organ_under_three_conventions_and_on_average():
    rows = _evaluation(1, ("liver", "spleen"), absent={("spleen", 2)})
    compared = compare_methods([rows])
    dice = _values(rows, "prior", target="spleen")
    others = np.delete(dice, 2)
    assert dice[2] == 1
    assert _find(compared, "dice", "spleen").means[0] == pytest.approx(100 * dice.mean())
    assert _find(compared, "dice_transunet", "spleen").means[0] == pytest.approx(100 * others.sum() / NUM_CASES)
    undefined = _find(compared, "dice_undefined", "spleen")
    assert undefined.means[0] == pytest.approx(100 * others.mean())
    assert (undefined.cases, undefined.undefined) == (NUM_CASES - 1, (1 / 8, 1 / 8))
    liver = _values(rows, "prior", target="liver")
    average = _find(compared, "dice", "average")
    assert average.means[0] == pytest.approx(100 * (liver + dice).mean() / 2)
    average = _find(compared, "hd95", "average")
    assert (average.cases, average.undefined) == (NUM_CASES, (1 / 16, 1 / 16))


def test_small_objects_are_compared_where_they_are_small():
    rows = _evaluation(2, ("liver", "spleen"))
    small = select_small(rows, 19)  # 6 columns by 2, 3, 4 or 5 rows
    assert _find(compare_methods([small]), "dice", "liver").cases == 4
    lone = [row for row in small if (row["target"], row["case"]) != ("spleen", "c0")]
    one = _find(compare_methods([lone]), "dice", "spleen")
    assert (one.cases, one.undefined) == (3, (0, 0))


def test_distances_in_mm_stand_beside_those_in_voxels():
    compared = compare_methods([[{**row, "hd95_mm": 0.5 * row["hd95"]} for row in _evaluation(0)]])
    voxels, in_mm = _find(compared, "hd95"), _find(compared, "hd95_mm")
    assert (voxels.unit, in_mm.unit) == ("voxels", "mm")
    assert in_mm.difference == pytest.approx(0.5 * voxels.difference)
    assert "HD95 mm" in format_comparison(compared)


def test_cases_of_a_patient_stand_together():
    rows = [
        {**row, "patient": "a" if row["case"] in ("c0", "c1", "c2", "c3", "c4") else row["case"]}
        for row in _evaluation(0)
    ]
    one = _find(compare_methods([rows]), "dice")
    gain = 100 * (_values(rows, "refined") - _values(rows, "prior"))
    assert (one.cases, one.patients) == (NUM_CASES, 4)
    assert one.difference == pytest.approx(gain.mean())
    assert one.interval == pytest.approx(paired_bootstrap(gain, [*"aaaaabcd"]))
    assert one.p_value == pytest.approx(stats.wilcoxon([gain[:5].mean(), *gain[5:]]).pvalue)
    alone = _find(compare_methods([[{**row, "patient": "a"} for row in rows]]), "dice")
    assert (alone.interval, alone.p_value, alone.patients) == (None, None, 1)


def test_one_case_has_no_interval_and_no_spread():
    one = _find(compare_methods([_evaluation(0)[:2]]), "dice")
    assert (one.interval, one.p_value, one.cases) == (None, None, 1)
    assert math.isnan(one.sds[0])


def test_what_cannot_be_paired_is_named():
    rows = _evaluation(0)
    with pytest.raises(ValueError, match="vessel c0 prior is not there once"):
        compare_methods([rows[1:]])
    with pytest.raises(ValueError, match="vessel c7 .* is not there once"):
        compare_methods([rows, rows[:-2]])
    with pytest.raises(ValueError, match="a case is not there once"):
        compare_methods([[*rows, rows[0]]])
    with pytest.raises(ValueError, match="for some rows only"):
        compare_methods([rows, [{**row, "hd95_mm": 1.0} for row in rows]])
    with pytest.raises(ValueError, match="the label of case c0 has 12 pixels here and 13 there"):
        compare_methods([rows, [{**row, "fn": row["fn"] + 1} for row in rows]])
    for empty in ([], [[]]):
        with pytest.raises(ValueError, match="no rows"):
            compare_methods(empty)


def test_text_says_what_the_figures_are():
    compared = compare_methods([_evaluation(0)])
    text = format_comparison(compared)
    dice = _find(compared, "dice")
    line = next(line for line in text.splitlines() if "Dice %" in line)
    assert f"{dice.means[1]:.2f} ± {dice.sds[1]:.2f}" in line and f"{dice.difference:+.2f}" in line
    assert f"{dice.p_value:.4f}" in line and line.split()[-2:] == ["8", "8"]
    assert "all conventions of Dice" in text and "TransUNet's" not in text
    assert "over cases" in text
    absent = format_comparison(compare_methods([_evaluation(s, absent={("vessel", 1)}) for s in (0, 1)]))
    assert "Dice, TransUNet's %" in absent and "Dice, absent undefined %" in absent
    assert "over 2 evaluations" in absent and "12.50 %" in absent
    assert max(map(len, absent.splitlines())) <= 130


def test_csv_and_json_hold_the_same_figures():
    compared = compare_methods([_evaluation(0)[:4]])
    records = json.loads(comparison_json(compared))
    lines = list(csv.DictReader(io.StringIO(comparison_csv(compared))))
    assert [float(line["mean_refined"]) for line in lines] == [record["mean_refined"] for record in records]
    assert records[0]["score"] == "dice" and records[0]["cases"] == 2
    single = json.loads(comparison_json(compare_methods([_evaluation(0)[:2]])))[0]
    assert single["p_value"] is None and single["sd_prior"] is None and single["interval_low"] is None


def test_latex_rows_of_one_target():
    compared = compare_methods([_evaluation(0)])
    lines = latex_rows(compared).splitlines()
    assert len(lines) == 5 and lines[2].startswith("prior & ") and lines[3].startswith(r"refined & \textbf{")
    assert all(line.endswith(r"\\") for line in lines[1:])
    assert len({line.count("&") for line in lines[1:]}) == 1
    dice, hd95 = _find(compared, "dice"), _find(compared, "hd95")
    assert rf"\textbf{{{dice.means[1]:.2f} $\pm$ {dice.sds[1]:.2f}}}" in lines[3]
    assert rf"{hd95.means[0]:.2f} $\pm$ {hd95.sds[0]:.2f} (0.00\%)" in lines[2]


def test_latex_rows_of_several_targets_have_a_column_each():
    lines = latex_rows(compare_methods([_evaluation(0, ("liver", "left_kidney"))])).splitlines()
    names = [name.split("$")[0] for name in lines[1].split(" & ")]
    assert names == ["% Method", "average Dice", "average HD95 voxels", "liver Dice", r"left\_kidney Dice"]
    assert lines[2].count("&") == 4


def test_a_background_is_scored_but_in_no_average():
    """Of classes that exclude each other: nearly every pixel of it is right, whatever the structures are."""
    names = ("background", "disc", "cup")
    rows = _evaluation(0, names)
    compared = compare_methods([rows])
    assert [one.target for one in compared if one.score == "dice"] == ["average", *names]
    expected = np.mean([_values(rows, "refined", target=target).mean() for target in names[1:]])
    assert _find(compared, "dice", "average").means[1] == pytest.approx(100 * expected)
    one = compare_methods([[row for row in rows if row["target"] != "cup"]])
    assert _find(one, "dice", "average").means == _find(one, "dice", "disc").means
    assert "HD95" in latex_rows(one)
