"""Labels of readers become class numbers, whatever a viewer made of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from PIL import Image

from hidiff_monai.data import read_pixels
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.io.images import read_orientation, write_mask
from hidiff_monai.label import command
from hidiff_monai.label.command import serve_bundle
from hidiff_monai.label.labels import write_classes
from hidiff_monai.label.served import ServedBundle

BUNDLES = Path(__file__).parents[2] / "bundles"
NAMES = ("right ventricle", "myocardium", "left ventricle")
AFFINE = np.array([[0, -0.8, 0, 5], [0.7, 0, 0, -3], [0, 0, 3, 1], [0, 0, 0, 1.0]])


def save_volume(folder: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), AFFINE), folder / "saved.nii.gz")
    return folder / "saved.nii.gz"


def test_segments_are_told_by_their_names(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 3, 4) % 3
    info = [{"name": "Left Ventricle", "idx": 1}, {"name": "myocardium", "idx": 2}]
    file = write_classes(save_volume(tmp_path, values), tmp_path / "out" / "a", NAMES, info)
    written = nibabel.load(file)
    assert file == tmp_path / "out" / "a.nii.gz"
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.array([0, 3, 2])[values])
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)


def test_without_names_values_are_class_numbers(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 3, 4) % 4
    file = write_classes(save_volume(tmp_path, values), tmp_path / "a", NAMES)
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(file).dataobj), values)


@pytest.mark.parametrize("info", [[], [{"name": "lesion", "idx": 4}, {"name": "myocardium", "idx": 2}]])
def test_a_segment_that_is_no_class_is_named(tmp_path: Path, info: list[dict[str, object]]) -> None:
    source = save_volume(tmp_path, np.arange(24).reshape(2, 3, 4) % 3 * 2)  # 0, 2, 4
    with pytest.raises(ValueError, match=f"{'lesion' if info else 'value 4'}.*expected only.*rename or remove"):
        write_classes(source, tmp_path / "a", NAMES, info)
    assert not list(tmp_path.glob("a*"))


def test_nrrd_keeps_its_grid(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 3, 4) % 4
    itk.imwrite(itk.imread(save_volume(tmp_path, values)), tmp_path / "saved.nrrd")
    written = nibabel.load(write_classes(tmp_path / "saved.nrrd", tmp_path / "a", NAMES))
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), values)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)


def test_a_picture_of_one_class_may_have_any_value(tmp_path: Path) -> None:
    mask = np.tri(5, 7, dtype=np.uint8)
    Image.fromarray(mask * 255).save(tmp_path / "saved.png")
    file = write_classes(tmp_path / "saved.png", tmp_path / "a", ("vessel",))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), mask)
    with pytest.raises(ValueError, match="value 255"):
        write_classes(tmp_path / "saved.png", tmp_path / "b", NAMES)


def test_the_edge_of_a_soft_brush_is_cut_at_half(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 12, 127, 128, 255]], np.uint8)).save(tmp_path / "saved.png")
    file = write_classes(tmp_path / "saved.png", tmp_path / "a", ("vessel",))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), [[0, 0, 0, 1, 1]])


def test_a_turned_picture_stays_turned(tmp_path: Path) -> None:
    mask = np.tri(5, 7, dtype=np.uint8)
    write_mask(tmp_path / "saved.png", mask * 255, orientation=6)
    file = write_classes(tmp_path / "saved.png", tmp_path / "a", ("vessel",))
    assert read_orientation(file) == 6  # as its image, else `hidiff check` refuses the pair
    np.testing.assert_array_equal(read_pixels(file).array[..., 0], mask)


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.mha"])
def test_a_format_that_is_not_read_says_which_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{name}: expected .nii.gz, .nrrd or a picture"):
        write_classes(tmp_path / name, tmp_path / "out", NAMES)


def test_a_case_of_four_files_is_found_by_any_of_them(tmp_path: Path) -> None:
    for patient in ("p_1", "p_2"):
        for sequence in ("t1", "t1ce", "t2", "flair"):
            (tmp_path / f"{patient}_{sequence}.nii.gz").write_bytes(b"x")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "p_1_t2.nii.gz").write_bytes(b"x")
    item = ServedBundle(BUNDLES / "brats", tmp_path).find_case(tmp_path / "p_2_t2.nii.gz")
    assert item["id"] == "p_2"
    assert item["image"] == [str(tmp_path / f"p_2_{name}.nii.gz") for name in ("t1", "t1ce", "t2", "flair")]
    (tmp_path / "p_1_t1.nii.gz").unlink()
    with pytest.raises(RuntimeError) as error:
        ServedBundle(BUNDLES / "brats", tmp_path).find_case(tmp_path / "p_1_t2.nii.gz")
    assert re.search(r"1 file\(s\) missing.*p_1_t1.nii.gz", str(find_value_error(error.value)))


def test_latest_weights_are_those_of_the_last_training(tmp_path: Path) -> None:
    given = tmp_path / "given.pt"
    given.write_bytes(b"x")
    served = ServedBundle(BUNDLES / "acdc", tmp_path, given)
    assert served.weights() == served.weights("bundle") == given
    served.trained.parent.mkdir()
    served.trained.write_bytes(b"x")
    assert (served.weights(), served.weights("bundle")) == (served.trained, given)
    with pytest.raises(ValueError, match=r"weights 'best'; expected one of \['latest', 'bundle'\]"):
        served.weights("best")


def test_a_temperature_is_not_for_the_weights_of_a_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr("hidiff_monai.label.served.load_model", lambda *_, overrides: asked.append(overrides))
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE), tmp_path / "heart.nii.gz")
    served = ServedBundle(BUNDLES / "acdc", tmp_path)
    served.open(tmp_path / "heart.nii.gz", "cpu")
    served.trained.parent.mkdir()
    served.trained.write_bytes(b"x")
    served.open(tmp_path / "heart.nii.gz", "cpu")
    (tmp_path / "given.pt").write_bytes(b"y")
    served = ServedBundle(BUNDLES / "chase_db1", tmp_path, tmp_path / "given.pt")
    Image.new("RGB", (4, 4)).save(tmp_path / "eye.png")
    served.open(tmp_path / "eye.png", "cpu", "bundle")
    assert asked == [{}, {"temperature": 1.0}, {"temperature": 1.0, "threshold": 0.7}]


def test_without_monai_label_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "monailabel", None)
    with pytest.raises(ValueError, match="monailabel is not installed here; .*make label"):
        serve_bundle(BUNDLES / "acdc", output=tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_a_folder_of_images_that_is_not_there_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="--studies .*scnas: there is no such folder"):
        serve_bundle(BUNDLES / "acdc", studies=str(tmp_path / "scnas"), output=tmp_path / "output")
    assert not (tmp_path / "scnas").exists()


def test_a_dicom_server_is_not_asked_for_an_unknown_modality(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: object())
    monkeypatch.delenv(command.SEARCH_FILTER, raising=False)
    with pytest.raises(ValueError, match="modality of drive is .*; expected DICOM.s CT, MR or the like"):
        serve_bundle(BUNDLES / "drive", studies="http://127.0.0.1:1/dicom-web", output=tmp_path / "output")


def test_a_checkpoint_that_is_not_there_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="--checkpoint .*none.pt: there is no such file"):
        serve_bundle(BUNDLES / "acdc", output=tmp_path / "output", checkpoint=tmp_path / "none.pt")
    assert not (tmp_path / "output").exists()
