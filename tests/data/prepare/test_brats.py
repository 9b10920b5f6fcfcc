"""BraTS on one made-up patient of the true shape, and the split by seed."""

import json
from pathlib import Path

import numpy as np
import pytest

from hidiff_monai.data import load_slices, load_volumes, read_geometry
from hidiff_monai.data.prepare import brats, prepare_dataset
from hidiff_monai.data.prepare.brats import SEQUENCES, split_patients
from hidiff_monai.data.slices import LoadSliced, LoadVolumed
from hidiff_monai.io import restore_to_source

BRATS_JSON = Path(__file__).parents[3] / "data_lists" / "brats.json"
SHAPE = (240, 240, 155)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])  # as in the challenge
NAME = "BraTS2021_00000"


def _write_patient(folder, write_nifti, shape=SHAPE):
    """Each sequence is constant but for a mark; the tumour is a box with all three parts."""
    for number, sequence in enumerate(SEQUENCES):
        image = np.full(shape, 100 * number, np.int16)
        image[30, 40, 90:100] = 1000 + number
        write_nifti(folder / f"{folder.name}_{sequence}.nii.gz", image, AFFINE)
    label = np.zeros(shape, np.uint8)
    label[20:40, 30:50, 70:110] = 2
    label[25:35, 35:45, 80:100] = 1
    label[30, 40, 90:95] = 4
    write_nifti(folder / f"{folder.name}_seg.nii.gz", label, AFFINE)
    return label


def test_a_patient_of_the_true_shape(tmp_path, write_nifti):
    label = _write_patient(tmp_path / "raw" / NAME, write_nifti)
    dataset_dir, datalist = prepare_dataset("brats", tmp_path / "raw", tmp_path / "out")
    (case,) = load_volumes(datalist, dataset_dir, "training")
    assert case["slices"] == 49
    prepared = LoadVolumed()(case)
    assert prepared["image"].shape == (4, 240, 240, 49)
    # RAS turns both axes of the plane: source voxel (30, 40, 90) is (209, 199, 90 - 80) now.
    assert prepared["image"][:, 209, 199, 10].tolist() == [1000, 1001, 1002, 1003]
    assert prepared["image"][:, 0, 0, 0].tolist() == [0, 100, 200, 300]
    assert prepared["label"][0, 209, 199, 9:16].tolist() == [1, 3, 3, 3, 3, 3, 1]
    world = AFFINE @ [30, 40, 90, 1]
    np.testing.assert_allclose(prepared["image"].affine.numpy() @ [209, 199, 10, 1], world)

    mask, affine = restore_to_source(prepared["label"][0].numpy(), read_geometry(case))
    expected = np.where(label == 4, 3, label)
    expected[..., :80] = 0
    expected[..., 129:] = 0
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(affine, AFFINE)

    item = LoadSliced()(load_slices(datalist, dataset_dir, "training")[10])
    np.testing.assert_array_equal(item["image"], prepared["image"][..., 10])
    tumour = [item["slice"] for item in load_slices(datalist, dataset_dir, "training", empty_share=0)]
    assert tumour == list(range(30))  # 80 to 109


def test_missing_sequence_wrong_depth_and_shifted_sequence_are_named(tmp_path, write_nifti):
    raw = tmp_path / "raw"
    for name in ("BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"):
        _write_patient(raw / name, write_nifti, (48, 56, 155))
    (raw / "BraTS2021_00001/BraTS2021_00001_flair.nii.gz").unlink()
    write_nifti(raw / "BraTS2021_00002/BraTS2021_00002_t2.nii.gz", np.zeros((48, 56, 154), np.int16), AFFINE)
    write_nifti(raw / "BraTS2021_00003/BraTS2021_00003_t1ce.nii.gz", np.zeros((48, 56, 155), np.int16), np.eye(4))
    (raw / "BraTS2021_00004").mkdir()
    with pytest.raises(ValueError, match="9 problem") as error:
        prepare_dataset("brats", raw, tmp_path / "out")
    text = str(error.value)
    assert "BraTS2021_00001_flair.nii.gz: no such file" in text
    assert "BraTS2021_00002_t2.nii.gz: grid (48, 56, 154)" in text
    assert "BraTS2021_00002_t2.nii.gz: 154 axial slices; expected 155" in text
    assert "BraTS2021_00003_t1ce.nii.gz: grid (48, 56, 155), affine" in text
    assert text.count("BraTS2021_00004_") == 5
    assert not (tmp_path / "out/datalist.json").exists()


def test_all_patients_split_as_published_and_recorded():
    names = [f"BraTS2021_{number:05d}" for number in range(1251)]
    sections = split_patients(names)
    counts = {name: list(sections.values()).count(name) for name in ("training", "validation", "test")}
    assert (counts["training"] + counts["validation"], counts["test"]) == (1126, 125)
    recorded = json.loads(BRATS_JSON.read_text())["split"]
    assert counts == {name: recorded[name] for name in counts}
    assert sections == split_patients(names[::-1])
    tested = [name for name in names if sections[name] == "test"]
    assert tested[:2] == ["BraTS2021_00006", "BraTS2021_00023"]  # by `sha256sum` of 2021:BraTS2021_00000 and so on


def test_the_folder_above_the_patients_is_found(tmp_path, monkeypatch):
    names = ["BraTS2021_00000", "BraTS2021_00002"]
    for name in names:
        (tmp_path / "BraTS2021_Training_Data" / name).mkdir(parents=True)
    found = []
    monkeypatch.setattr(brats, "prepare_volumes", lambda volume_set, cases, output: found.append(cases))
    for source in (tmp_path, tmp_path / "BraTS2021_Training_Data"):
        brats.prepare(source, tmp_path / "out")
    assert [[case.id for case in cases] for cases in found] == [names, names]
