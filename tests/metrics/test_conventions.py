"""The table of conventions, cell by cell, and what one absent organ is worth."""

import math

import numpy as np
import pytest

from hidiff_monai.metrics import DICE_CONVENTIONS, ConfusionCounts

BOTH_EMPTY, FALSE_ALARM, MISSED = (ConfusionCounts(0, fp, fn, 9) for fp, fn in ((0, 0), (4, 0), (0, 4)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dice_undefined", [math.nan, 0, 0]),
        ("dice", [1, 0, 0]),
        ("dice_transunet", [0, 1, 0]),
    ],
)
def test_absent_classes(name, expected):
    convention = DICE_CONVENTIONS[name]
    np.testing.assert_equal([convention(counts) for counts in (BOTH_EMPTY, FALSE_ALARM, MISSED)], expected)
    assert convention(ConfusionCounts(3, 1, 1, 5)) == 0.75


def test_one_absent_organ_of_96_is_worth_a_point():
    counts = [ConfusionCounts(1, 0, 0, 0)] * 95 + [BOTH_EMPTY]
    means = {name: np.nanmean([convention(one) for one in counts]) for name, convention in DICE_CONVENTIONS.items()}
    assert 100 * (means["dice"] - means["dice_transunet"]) == pytest.approx(1.04, abs=0.005)
    assert means["dice_undefined"] == 1
