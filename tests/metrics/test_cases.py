"""Case scores and their summary, by hand."""

import math

import numpy as np
import pytest
import torch

from hidiff_monai.metrics import score_case, summarise

EMPTY = np.zeros((10, 12), dtype=bool)
SQUARE = EMPTY.copy()
SQUARE[2:6, 2:6] = True
HALF = EMPTY.copy()
HALF[2:6, 4:6] = True


def test_keys_and_values_of_one_case() -> None:
    """Half a 4 × 4 square found: Dice 2/3, and its lost edge is two columns away from what was found."""
    assert score_case(HALF, SQUARE) == pytest.approx(
        {
            "dice": 2 / 3,
            "iou": 1 / 2,
            "hd95": 2.0,
            "recall": 1 / 2,
            "accuracy": 112 / 120,
            "tp": 8,
            "fp": 0,
            "fn": 8,
            "tn": 104,
        }
    )


def test_spacing_adds_hd95_in_mm() -> None:
    in_voxels = score_case(HALF, SQUARE)
    in_mm = score_case(torch.from_numpy(HALF), torch.from_numpy(SQUARE), spacing=(3.0, 0.5))
    assert in_mm == pytest.approx({**in_voxels, "hd95_mm": 1.0})


def test_region_limits_every_score() -> None:
    region = EMPTY.copy()
    region[:, 4:] = True
    scores = score_case(HALF, SQUARE, region)
    assert [scores[name] for name in ("dice", "iou", "hd95", "recall", "accuracy")] == [1, 1, 0, 1, 1]
    assert sum(scores[name] for name in ("tp", "fp", "fn", "tn")) == region.sum()


def test_summary_by_hand() -> None:
    """A hit, a false alarm, an empty pair and a half hit: Dice 1, 0, 1, 2/3; HD95 0 and 2; recall 1, 1, 1/2."""
    pairs = [(SQUARE, SQUARE), (SQUARE, EMPTY), (EMPTY, EMPTY), (HALF, SQUARE)]
    summary = summarise([score_case(*pair) for pair in pairs])
    assert summary["cases"] == 4
    dices = [1, 0, 1, 2 / 3]
    assert summary["dice"] == pytest.approx({"mean": 2 / 3, "sd": np.std(dices, ddof=1), "n": 4, "nan_ratio": 0})
    assert summary["hd95"] == pytest.approx({"mean": 1, "sd": math.sqrt(2), "n": 2, "nan_ratio": 0.5})
    assert summary["recall"]["mean"] == pytest.approx(2.5 / 3)
    assert (summary["recall"]["n"], summary["recall"]["nan_ratio"]) == (3, 0.25)
    # summed counts: TP 24, FP 16, FN 8, TN 432
    expected = {"dice": 48 / 72, "iou": 24 / 48, "recall": 24 / 32, "accuracy": 456 / 480}
    assert summary["micro"] == pytest.approx(expected)


def test_micro_equals_the_score_of_all_pixels_together() -> None:
    rng = np.random.default_rng(2)
    predictions, labels = rng.random((6, 20, 20)) < 0.3, rng.random((6, 20, 20)) < rng.random((6, 1, 1))
    summary = summarise([score_case(*pair) for pair in zip(predictions, labels, strict=True)])
    pooled = score_case(predictions, labels)
    assert summary["micro"] == pytest.approx({name: pooled[name] for name in summary["micro"]})
    assert summary["micro"]["dice"] != pytest.approx(summary["dice"]["mean"], abs=1e-3)


def test_undefined_everywhere_is_nan_not_zero() -> None:
    summary = summarise([score_case(EMPTY, SQUARE)] * 3)
    assert math.isnan(summary["hd95"]["mean"])
    assert (summary["hd95"]["n"], summary["hd95"]["nan_ratio"]) == (0, 1.0)
    assert summary["dice"]["mean"] == 0.0


def test_one_case_has_no_spread() -> None:
    assert math.isnan(summarise([score_case(HALF, SQUARE)])["dice"]["sd"])


def test_unsound_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows to summarise"):
        summarise([])
    with pytest.raises(ValueError, match="HD95 in mm is there for some rows only"):
        summarise([score_case(HALF, SQUARE), score_case(HALF, SQUARE, spacing=(1.0, 1.0))])
