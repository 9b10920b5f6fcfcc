"""Overlap scores against scikit-learn and MedPy, every combination of empty masks, and a human observer on DRIVE."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from medpy.metric import binary as medpy
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, recall_score

from hidiff_monai.metrics import ConfusionCounts, accuracy, confusion_counts, dice, iou, recall

EMPTY = np.zeros((4, 5), dtype=bool)
SOME = np.zeros((4, 5), dtype=bool)
SOME[1, 1:3] = True


@pytest.mark.parametrize("shape", [(23, 17), (5, 9, 11)])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_independent_libraries(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, label = rng.random(shape) < 0.3, rng.random(shape) < rng.uniform(0.05, 0.9)
    counts = confusion_counts(prediction, label)
    truth, found = label.ravel(), prediction.ravel()
    assert dice(counts) == pytest.approx(f1_score(truth, found), abs=1e-12)
    assert iou(counts) == pytest.approx(jaccard_score(truth, found), abs=1e-12)
    assert recall(counts) == pytest.approx(recall_score(truth, found), abs=1e-12)
    assert accuracy(counts) == pytest.approx(accuracy_score(truth, found), abs=1e-12)
    assert dice(counts) == pytest.approx(medpy.dc(prediction, label), abs=1e-12)
    assert dice(counts) == pytest.approx(2 * iou(counts) / (1 + iou(counts)), abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        (EMPTY, EMPTY, {"dice": 1, "iou": 1, "recall": 1, "accuracy": 1}),
        (SOME, EMPTY, {"dice": 0, "iou": 0, "recall": math.nan, "accuracy": 18 / 20}),
        (EMPTY, SOME, {"dice": 0, "iou": 0, "recall": 0, "accuracy": 18 / 20}),
        (SOME, SOME, {"dice": 1, "iou": 1, "recall": 1, "accuracy": 1}),
        (SOME, np.roll(SOME, 1, axis=1), {"dice": 1 / 2, "iou": 1 / 3, "recall": 1 / 2, "accuracy": 18 / 20}),
    ],
    ids=["both empty", "label empty", "prediction empty", "equal", "shifted by one"],
)
def test_empty_masks(prediction: np.ndarray, label: np.ndarray, expected: dict[str, float]) -> None:
    counts = confusion_counts(prediction, label)
    scores = {score.__name__: score(counts) for score in (dice, iou, recall, accuracy)}
    assert scores == pytest.approx(expected, nan_ok=True)


def test_counts_by_hand() -> None:
    prediction = np.array([[1, 1, 0], [1, 0, 0]])
    label = np.array([[1, 0, 1], [0, 0, 0]])
    assert confusion_counts(prediction, label) == ConfusionCounts(tp=1, fp=2, fn=1, tn=2)


def test_region_equals_cutting_the_pixels_out() -> None:
    rng = np.random.default_rng(7)
    prediction, label, region = (rng.random((20, 30)) < share for share in (0.4, 0.3, 0.6))
    counts = confusion_counts(prediction, label, region)
    assert counts == confusion_counts(prediction[region][None], label[region][None])
    assert sum(counts) == region.sum()
    outside = prediction ^ (~region & (rng.random((20, 30)) < 0.5))
    assert confusion_counts(outside, label, region) == counts


def test_emptiness_is_judged_inside_the_region() -> None:
    assert dice(confusion_counts(SOME, EMPTY, region=~SOME)) == 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_arrays_and_tensors_of_any_type_count_the_same(dtype: type[np.generic]) -> None:
    shifted = np.roll(SOME, 1, axis=1)
    expected = confusion_counts(SOME, shifted)
    assert confusion_counts(SOME.astype(dtype), shifted.astype(dtype)) == expected
    assert confusion_counts(torch.from_numpy(SOME.astype(dtype)), torch.from_numpy(shifted)) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SOME * 255, SOME), r"prediction holds 255; expected only 0 and 1"),
        ((SOME, SOME * 0.3), r"label holds 0\.3"),
        ((SOME, np.where(SOME, np.nan, 0.0)), r"label holds nan"),
        ((SOME, SOME[1:]), r"prediction \(4, 5\), label \(3, 5\)"),
        ((SOME, SOME, SOME[:, 1:]), r"region \(4, 4\) differ in shape"),
        ((SOME[0], SOME[0]), r"masks have shape \(5,\); expected \(H, W\) or \(D, H, W\)"),
        ((SOME, SOME, EMPTY), r"region holds no pixel"),
    ],
)
def test_bad_masks_are_named(arguments: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_counts(*arguments)


def test_second_observer_on_drive_scores_as_measured_elsewhere(drive_dir: Path) -> None:
    def masks(folder: str) -> list[np.ndarray]:
        files = sorted((drive_dir / "test" / folder).glob("*.gif"))
        return [np.asarray(Image.open(file).convert("L")) > 127 for file in files]

    pairs = list(zip(masks("2nd_manual"), masks("1st_manual"), strict=True))
    assert len(pairs) == 20
    counts = [confusion_counts(second, first) for second, first in pairs]
    means = [100 * np.mean([score(case) for case in counts]) for score in (dice, iou, recall, accuracy)]
    assert means == pytest.approx([78.79, 65.05, 77.57, 96.37], abs=0.01)
