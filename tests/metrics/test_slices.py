"""Slices of volumes, and which of them are small, by hand."""

import numpy as np
import pytest

from hidiff_monai.metrics import regions_of_slices, score_case, score_slices, select_small


def _volume():
    """Areas 0, 4, 9, 10 in slices 0 to 3 of (8, 8, 4)."""
    label = np.zeros((8, 8, 4), bool)
    label[:2, :2, 1] = label[:3, :3, 2] = label[:2, :5, 3] = True
    return label


def _rows(is_labelled=True):
    label = _volume()
    scored = score_slices(np.roll(label, 1, axis=1), label)
    row = {"region": "slice", "is_labelled": is_labelled}
    return [{**row, "case": str(scores["slice"]), **scores} for scores in scored]


def test_slices_are_scored_one_by_one():
    label, rows = _volume(), _rows()
    assert [row["slice"] for row in rows] == [0, 1, 2, 3]
    shifted = np.roll(label, 1, axis=1)
    scores = score_case(shifted[..., 1], label[..., 1])
    assert scores["dice"] == 0.5 and scores["hd95"] == 1
    assert {key: rows[1][key] for key in scores} == scores
    assert rows[0]["dice"] == 1 and np.isnan(rows[0]["hd95"])


def test_slices_count_twice_where_anything_is_labelled():
    rows = [{**row, "is_labelled": row["slice"] > 1} for row in _rows()]
    named = [(row["region"], row["slice"]) for row in regions_of_slices(rows)]
    every = [("every slice", number) for number in range(4)]
    assert named == [*every, ("slices with a label", 2), ("slices with a label", 3)]


def test_rows_are_chosen_by_the_size_of_the_label():
    small = select_small(_rows(), 10)
    assert [row["case"] for row in small] == ["1", "2"]
    assert small[0]["region"] == "slice, objects of 1 to 9 pixels"
    with pytest.raises(ValueError, match="1 to 3 pixels"):
        select_small(_rows(), 4)
