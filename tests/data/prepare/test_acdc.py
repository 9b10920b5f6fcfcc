"""ACDC, the real one and the official layout."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from hidiff_monai.data import check_leakage, load_volumes, read_geometry
from hidiff_monai.data.prepare import prepare_dataset
from hidiff_monai.data.slices import LoadVolumed
from hidiff_monai.io import restore_to_source

ACDC_JSON = Path(__file__).parents[3] / "data_lists" / "acdc.json"
SECTIONS = ("training", "validation", "test")


def _ids(datalist):
    content = json.loads(datalist.read_text())
    return {name: [case["id"] for case in content[name]] for name in SECTIONS}


@pytest.fixture
def official(tmp_path, write_nifti, draw_volume):
    """One patient for each section, as the challenge delivers them."""
    for patient, last in ((2, 12), (3, 15), (101, 9), (1, 12)):
        folder = tmp_path / f"raw/training/patient{patient:03d}"
        for frame in (1, last):
            image, label = draw_volume(100 * patient + frame, (0, 1, 2, 3))
            write_nifti(folder / f"{folder.name}_frame{frame:02d}.nii.gz", image)
            write_nifti(folder / f"{folder.name}_frame{frame:02d}_gt.nii.gz", label)
        write_nifti(folder / f"{folder.name}_4d.nii.gz", image)
        (folder / "Info.cfg").write_text(f"ED: 1\nES: {last}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\n")
    return tmp_path / "raw"


def test_real_data_gives_the_committed_split_and_goes_back_exactly(data_root, tmp_path):
    dataset_dir, datalist = prepare_dataset("acdc", data_root / "acdc", tmp_path)
    committed = json.loads(ACDC_JSON.read_text())
    check_leakage(committed)
    check_leakage(json.loads(datalist.read_text()), dataset_dir)
    assert _ids(datalist) == _ids(ACDC_JSON)
    assert json.loads(datalist.read_text())["folds"] == committed["folds"]
    folds = [{name[:10] for name in names} for names in committed["folds"].values()]
    assert [len(patients) for patients in folds] == [9] * 5 and len(set.union(*folds)) == 45
    patients = [len({case["patient"] for case in committed[name]}) for name in SECTIONS]
    assert patients == [35, 10, 20]
    split = json.loads((data_root / "acdc/split.json").read_text())
    assert _ids(datalist)["training"] == sorted(split["train"])
    for case in load_volumes(datalist, dataset_dir, "validation"):
        assert case["acquired"]
        raw = nibabel.load(data_root / f"acdc/volumes/{case['id']}_gt.nii.gz")
        prepared = LoadVolumed()(case)
        mask, affine = restore_to_source(prepared["label"][0].numpy(), read_geometry(case))
        np.testing.assert_array_equal(mask, np.asarray(raw.dataobj))
        np.testing.assert_array_equal(affine, raw.affine)


def test_official_layout(official, tmp_path):
    _, datalist = prepare_dataset("acdc", official, tmp_path / "out")
    assert _ids(datalist) == {
        "training": ["patient003_frame01", "patient003_frame15", "patient101_frame01", "patient101_frame09"],
        "validation": ["patient002_frame01", "patient002_frame12"],
        "test": ["patient001_frame01", "patient001_frame12"],
    }


def test_files_that_tell_no_orientation_are_not_turned(official, tmp_path):
    """Neither qform nor sform: nibabel then turns the first axis."""
    for file in official.rglob("*.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(file).dataobj), None), file)
    dataset_dir, datalist = prepare_dataset("acdc", official, tmp_path / "out")
    for case in load_volumes(datalist, dataset_dir, "training"):
        label = LoadVolumed()(case)["label"][0].numpy()
        raw = nibabel.load(official / f"training/{case['patient']}/{case['id']}_gt.nii.gz")
        np.testing.assert_array_equal(label, np.asarray(raw.dataobj))
        mask, affine = restore_to_source(label, read_geometry(case))
        np.testing.assert_array_equal(mask, np.asarray(raw.dataobj))
        np.testing.assert_array_equal(affine, raw.affine)


def test_a_frame_that_info_names_must_be_there(official, tmp_path):
    for file in official.rglob("patient003_frame15*"):
        file.unlink()
    with pytest.raises(ValueError, match="2 problem") as error:
        prepare_dataset("acdc", official, tmp_path / "out")
    assert "patient003_frame15.nii.gz: no such file" in str(error.value)
    assert "patient003_frame15_gt.nii.gz: no such file" in str(error.value)


def test_a_split_with_a_frame_or_patient_twice_is_refused(tmp_path, write_nifti, draw_volume):
    for number in (1, 2, 3):
        for frame in ("01", "02"):
            image, label = draw_volume(10 * number + int(frame), (0, 1, 2, 3))
            write_nifti(tmp_path / f"raw/volumes/patient00{number}_frame{frame}.nii.gz", image)
            write_nifti(tmp_path / f"raw/volumes/patient00{number}_frame{frame}_gt.nii.gz", label)
    split = {
        "train": ["patient001_frame01", "patient001_frame02", "patient002_frame01"],
        "val": ["patient002_frame02", "patient001_frame01", "patient009_frame01"],
        "test": ["patient003_frame01"],
    }
    (tmp_path / "raw/split.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match="4 problem") as error:
        prepare_dataset("acdc", tmp_path / "raw", tmp_path / "out")
    lines = str(error.value).splitlines()[1:]
    assert "split.json: patient001_frame01 is in 'training' and in 'validation'" in lines[0]
    assert "split.json: patient003_frame02 is in no section" in lines[1]
    assert "split.json: patient009_frame01 is not on disk" in lines[2]
    assert "patient002_frame02.nii.gz: patient patient002 in 'validation', and in 'training'" in lines[3]
    assert not (tmp_path / "out/datalist.json").exists()
