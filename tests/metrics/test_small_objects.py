"""Which slices and cases are small, by hand."""

import numpy as np
import pytest

from hidiff_monai.metrics import score_case, score_small_slices, select_small


def _volume():
    """Areas 0, 4, 9, 10 in slices 0 to 3 of (4, 8, 8)."""
    label = np.zeros((4, 8, 8), bool)
    label[1, :2, :2] = label[2, :3, :3] = label[3, :2, :5] = True
    return label


def test_slices_are_scored_one_by_one():
    label = _volume()
    prediction = np.roll(label, 1, axis=2)
    rows = score_small_slices(prediction, label, 10, spacing=(2.0, 3.0))
    assert [row["slice"] for row in rows] == [1, 2]
    assert rows[0] == {"slice": 1, **score_case(prediction[1], label[1], spacing=(2.0, 3.0))}
    assert rows[0]["dice"] == 0.5 and rows[0]["hd95"] == 3
    with pytest.raises(ValueError, match="select_small"):
        score_small_slices(prediction[0], label[0], 10)


def test_rows_are_chosen_by_the_size_of_the_label():
    label = _volume()
    rows = [{"case": str(z), **score_case(~plane, plane)} for z, plane in enumerate(label)]
    assert [row["case"] for row in select_small(rows, 10)] == ["1", "2"]
    with pytest.raises(ValueError, match="1 to 3 pixels"):
        select_small(rows, 4)
