"""Labels of every kind on the grid of a case, and those that do not fit refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from hidiff_monai.data import LoadScand, list_volumes
from hidiff_monai.io import write_mask
from hidiff_monai.prediction.labels import dice_of_class, find_label, read_label

PHOTOGRAPH: dict[str, Any] = {"filename_or_obj": "x.png", "orientation": 1}
MASK = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], np.uint8)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_mask_of_ours_comes_back_as_it_was(tmp_path: Path, orientation: int) -> None:
    write_mask(tmp_path / "x.png", MASK * 255, orientation)
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a"]), MASK)


@pytest.mark.parametrize("value", [1, 100, 255])
def test_of_one_class_any_second_value_is_foreground(tmp_path: Path, value: int) -> None:
    Image.fromarray(MASK * value).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a"]), MASK)


def test_several_classes_keep_their_numbers(tmp_path: Path) -> None:
    Image.fromarray(MASK * 2).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a", "b"]), MASK * 2)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (MASK * 3, ["a", "b"], "values up to 3; expected class numbers 0 to 2"),
        (np.arange(8, dtype=np.uint8).reshape(2, 4), ["a"], "expected 0 and one other value"),
        (MASK[:1], ["a"], r"shape \(1, 4\); expected \(2, 4\)"),
        (np.dstack([MASK * 255, MASK, MASK]), ["a"], "3 channels; expected one"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, values: np.ndarray, names: list[str], message: str) -> None:
    Image.fromarray(values).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=message):
        read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), names)


def test_a_volume_elsewhere_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag([2, 1, 1, 1])), tmp_path / "x.nii.gz")
    meta = {"source_affine": np.eye(4), "source_shape": [2, 3, 4]}
    with pytest.raises(ValueError, match="lies elsewhere than its image"):
        read_label(tmp_path / "x.nii.gz", meta, (2, 3, 4), ["a"])
    with pytest.raises(ValueError, match="is a volume; expected a picture"):
        read_label(tmp_path / "x.nii.gz", PHOTOGRAPH, (2, 4), ["a"])
    with pytest.raises(ValueError, match="is DICOM; expected NIfTI or a picture"):
        read_label(tmp_path / "x.dcm", meta, (2, 3, 4), ["a"])


def test_a_label_beats_an_image_of_the_same_name(tmp_path: Path) -> None:
    for name in ("x.nii.gz", "x_gt.nii.gz"):
        (tmp_path / name).touch()
    assert find_label(tmp_path, "x") == tmp_path / "x_gt.nii.gz"
    assert find_label(tmp_path, "y") is None and find_label(None, "x") is None


def test_dice_of_a_class() -> None:
    assert dice_of_class(MASK, MASK * 2, 1) == 0 and dice_of_class(MASK, MASK, 2) is None
    assert dice_of_class(MASK, np.roll(MASK, 1, axis=1), 1) == pytest.approx(2 / 6)


def test_values_mean_what_they_meant_in_training(tmp_path: Path) -> None:
    Image.fromarray(MASK + 1).save(tmp_path / "x.png")
    swapped = {"label_values": {"1": 2, "2": 1}}
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a", "b"], swapped), 2 - MASK)
    inverted = {"label_values": {"0": 1, "255": 0}}
    Image.fromarray(MASK * 255).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a"], inverted), 1 - MASK)
    Image.fromarray(MASK * 150 + 50).save(tmp_path / "x.png")
    found = read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a"], {"label_threshold": 100})
    np.testing.assert_array_equal(found, MASK)


def test_values_that_had_no_meaning_in_training_are_refused(tmp_path: Path) -> None:
    """Read as class numbers, a file of 0, 1 and 2 would mean something else than one of 0 and 2."""
    Image.fromarray(MASK * 3).save(tmp_path / "x.png")
    rule = {"label_values": {"0": 0, "1": 1, "2": 2, "4": 3}}
    with pytest.raises(ValueError, match=r"grey values \{3\}; expected only \{0, 1, 2, 4\}, as in training"):
        read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a", "b", "c"], rule)
    Image.fromarray(MASK).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="no grey value above 127, though up to 1"):
        read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a"], {"label_threshold": 127})


def test_the_tint_of_a_jpeg_mask_is_as_harmless_as_in_training(tmp_path: Path) -> None:
    tinted = np.repeat(MASK[..., None] * 255, 3, axis=-1)
    tinted[..., 2] -= MASK * 5
    Image.fromarray(tinted).save(tmp_path / "x.png")
    rule = {"label_threshold": 127}
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", PHOTOGRAPH, (2, 4), ["a"], rule), MASK)


def test_segments_that_overlap_are_no_classes(data_root: Path) -> None:
    folder = data_root / "dicom_seg_reference"
    image = LoadScand()(list_volumes(folder / "ct")[0])["image"]
    names = ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]
    with pytest.raises(ValueError, match=r"partial_overlaps.dcm: \d+ voxels of '\w+' are of other segments too"):
        read_label(folder / "partial_overlaps.dcm", dict(image.meta), image.shape[1:], names)
