"""Sizes, uncertainty and the refiner's verdict, on masks small enough to count by hand."""

import numpy as np
import pytest

from hidiff_monai.prediction.reference import Usual
from hidiff_monai.prediction.verdict import (
    axial_axis,
    compare_masks,
    describe_place,
    measure_classes,
    measure_uncertainty,
    most_telling_slice,
    why_hard,
)

PRIOR = np.array([[0, 1, 1, 0], [0, 1, 2, 2]], np.uint8)
REFINED = np.array([[0, 1, 1, 1], [0, 1, 1, 2]], np.uint8)


def test_classes_are_counted_before_and_after() -> None:
    first, second = measure_classes(REFINED, PRIOR, ["a", "b"], voxel_ml=0.5)
    assert (first["pixels"], first["prior_pixels"], first["ml"]) == (5, 3, 2.5)
    assert (second["pixels"], second["prior_pixels"], second["ml"]) == (1, 2, 0.5)


def test_uncertainty_is_entropy_per_mask_pixel() -> None:
    entropy = np.full(REFINED.shape, 0.3, np.float32)
    assert measure_uncertainty(entropy, REFINED) == pytest.approx(8 * 0.3 / 6)
    assert measure_uncertainty(entropy, np.zeros_like(REFINED)) is None


def test_the_verdict_counts_what_changed() -> None:
    verdict = compare_masks(REFINED, PRIOR)
    assert verdict["changed_pixels"] == 2 and verdict["changed_share"] == pytest.approx(2 / 6)
    assert verdict["agreement"] == pytest.approx(2 * 4 / (6 + 5))
    assert why_hard(verdict, 0.2, Usual()) == [
        "the refiner changed 33.33 % of the mask, more than the limit of 25.00 %"
    ]
    assert why_hard(verdict, 0.2, Usual(changed_share=0.4)) == []


def test_a_sure_case_that_stayed_as_it_was_looks_easy() -> None:
    verdict = compare_masks(PRIOR, PRIOR)
    assert verdict == {"agreement": 1.0, "changed_pixels": 0, "changed_share": 0.0}
    assert why_hard(verdict, 0.2, Usual(0.3)) == [] and describe_place(PRIOR != PRIOR) == "nowhere"
    assert why_hard(verdict, 0.4, Usual(0.3)) == ["0.400 nats a mask pixel, more than the usual 0.300"]


def test_an_empty_mask_looks_hard_and_divides_by_nothing() -> None:
    empty = np.zeros((4, 4), np.uint8)
    verdict = compare_masks(empty, empty)
    assert verdict["agreement"] is None and verdict["changed_share"] is None
    assert why_hard(verdict, None, Usual(0.3)) == ["no pixel is foreground"]


def test_places_are_told_in_words_and_in_the_numbers_of_the_source() -> None:
    photograph = np.zeros((9, 9), bool)
    photograph[7, 1:3] = True
    assert describe_place(photograph) == "rows 7 to 7, columns 1 to 2, mostly lower left"
    volume = np.zeros((4, 4, 6), bool)
    volume[0, 0, 2], volume[:2, 0, 4] = True, True
    from_feet, from_head, sagittal = (
        axial_axis({"source_affine": affine, "source_shape": [6, 6, 6]})
        for affine in (np.eye(4), np.diag([1, 1, -1, 1]), np.eye(4)[:, [2, 0, 1, 3]])
    )
    assert describe_place(volume, from_feet) == "slices 2 to 4, most in slice 4"
    assert describe_place(volume, from_head) == "slices 1 to 3, most in slice 1"
    assert describe_place(volume, sagittal) == "slices 2 to 4 along axis 0, most in slice 4"


def test_the_slice_that_tells_most_is_shown() -> None:
    empty = np.zeros((4, 4, 5), np.uint8)
    mask, entropy = empty.copy(), np.zeros((4, 4, 5), np.float32)
    assert most_telling_slice(empty, empty, entropy) == 2
    mask[:2, :2, 1] = 1
    assert most_telling_slice(mask, empty, entropy) == 1
    mask[0, 0, 3], entropy[0, 0, 3] = 1, 0.5
    assert most_telling_slice(mask, empty, entropy) == 3
