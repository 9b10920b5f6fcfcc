"""HD95 by hand, against a brute force over all pairs of surface pixels, and against MedPy."""

import math
import warnings

import numpy as np
import pytest
import torch
from medpy.metric import binary as medpy
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt
from scipy.spatial.distance import cdist

from hidiff_monai.metrics import hd95

EMPTY = np.zeros((8, 8), dtype=bool)
SOME = np.pad(np.ones((2, 3), dtype=bool), ((2, 4), (1, 4)))


def pixel(shape: tuple[int, ...], *positions: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(np.transpose(positions))] = True
    return mask


def blobs(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = (binary_dilation(rng.random(shape) < 0.02, iterations=2) for _ in range(2))
    return first, second


def brute_force(prediction: np.ndarray, label: np.ndarray, spacing: tuple[float, ...]) -> float:
    surfaces = [np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing) for mask in (prediction, label)]
    distances = cdist(*surfaces)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


def transform(prediction: np.ndarray, label: np.ndarray, spacing: tuple[float, ...]) -> float:
    surfaces = [mask & ~binary_erosion(mask) for mask in (prediction, label)]
    to_label, to_prediction = (distance_transform_edt(~surface, sampling=spacing) for surface in surfaces[::-1])
    return max(np.percentile(to_label[surfaces[0]], 95), np.percentile(to_prediction[surfaces[1]], 95))


@pytest.mark.parametrize(
    ("spacing_mm", "expected"), [(None, 5.0), ((1.0, 1.0), 5.0), ((0.5, 0.5), 2.5), ((2.0, 0.5), math.hypot(6, 2))]
)
def test_two_pixels_by_hand(spacing_mm: tuple[float, ...] | None, expected: float) -> None:
    first, second = pixel((9, 9), (1, 1)), pixel((9, 9), (4, 5))
    assert hd95(first, second, spacing_mm) == pytest.approx(expected, rel=1e-6)


def test_the_larger_direction_counts() -> None:
    """One pixel against two, 10 apart: d(P→G) = {0}, d(G→P) = {0, 10}, so P95 = 9.5; MedPy pools {0, 0, 10} into 9."""
    prediction, label = pixel((3, 15), (1, 2)), pixel((3, 15), (1, 2), (1, 12))
    assert hd95(prediction, label) == pytest.approx(9.5)
    assert hd95(label, prediction) == pytest.approx(9.5)
    assert medpy.hd95(prediction, label) == pytest.approx(9.0)


def test_slices_count_with_their_own_spacing() -> None:
    first, second = pixel((6, 5, 5), (1, 2, 2)), pixel((6, 5, 5), (4, 2, 2))
    assert hd95(first, second, (5.0, 0.7, 0.7)) == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 31), (1.0, 1.0)), ((40, 31), (0.3, 1.7)), ((12, 15, 14), (1.0, 1.0, 1.0)), ((12, 15, 14), (5.0, 0.7, 0.9))],
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_two_brute_forces(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    prediction, label = blobs(shape, seed)
    expected = brute_force(prediction, label, spacing)
    assert expected > 0
    assert transform(prediction, label, spacing) == pytest.approx(expected, rel=1e-9)
    assert hd95(prediction, label, spacing) == pytest.approx(expected, rel=1e-5)
    assert hd95(label, prediction, spacing) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.5, 0.8)])
def test_equals_medpy_where_both_directions_agree(spacing: tuple[float, ...]) -> None:
    """A line against its shifted copy: every distance is the same, so pooling changes nothing."""
    label = np.zeros((20, 12), dtype=bool)
    label[4] = True
    prediction = np.roll(label, 7, axis=0)
    assert hd95(prediction, label, spacing) == pytest.approx(medpy.hd95(prediction, label, spacing), rel=1e-6)
    assert hd95(prediction, label, spacing) == pytest.approx(7 * spacing[0], rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_bounded_by_medpys_full_hausdorff_distance(seed: int) -> None:
    prediction, label = blobs((40, 31), seed)
    assert 0 < hd95(prediction, label) <= medpy.hd(prediction, label) + 1e-5


def test_a_perfect_mask_is_at_distance_zero() -> None:
    assert hd95(SOME, SOME) == 0.0
    assert hd95(~EMPTY, ~EMPTY) == 0.0


@pytest.mark.parametrize(("prediction", "label"), [(EMPTY, EMPTY), (SOME, EMPTY), (EMPTY, SOME)])
def test_empty_masks_are_undefined_and_silent(prediction: np.ndarray, label: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(hd95(prediction, label))
        assert math.isnan(hd95(torch.from_numpy(prediction), torch.from_numpy(label), (1.0, 1.0)))


def test_nothing_outside_the_region_counts() -> None:
    region = np.ones((12, 12), dtype=bool)
    region[:, 9:] = False
    label = pixel((12, 12), (3, 3))
    prediction = label | pixel((12, 12), (3, 11))
    assert hd95(prediction, label) > 0
    assert hd95(prediction, label, region=region) == 0.0
    assert math.isnan(hd95(pixel((12, 12), (3, 11)), label, region=region))


@pytest.mark.parametrize("spacing_mm", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan)])
def test_bad_spacing_is_named(spacing_mm: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected 2 positive numbers"):
        hd95(SOME, SOME, spacing_mm)


def test_more_distances_than_torch_s_quantile_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of noise on a large scan: its limit is 2^24, here any."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("quantile() input tensor is too large")

    monkeypatch.setattr(torch, "quantile", refuse)
    found, label = np.zeros((2, 40, 40), bool)
    found[:, ::3], label[5:9, 5:9] = True, True
    assert 20 < hd95(found, label) < 50
