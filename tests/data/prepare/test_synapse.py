"""Synapse from both layouts: 13 organs in, 8 out, on RAS slices that go back onto the source voxel by voxel."""

import importlib.util
import json
import logging
import sys
import types
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import DataLoader, Dataset

from hidiff_monai.data import check_leakage, load_volumes, read_geometry
from hidiff_monai.data.prepare import npz, prepare_dataset
from hidiff_monai.data.prepare.splits import deal_folds
from hidiff_monai.data.prepare.synapse import ORGANS, RAW_VALUES, section_of
from hidiff_monai.data.slices import LoadVolumed
from hidiff_monai.io import restore_to_source

SYNAPSE_JSON = Path(__file__).parents[3] / "data_lists" / "synapse.json"
RAW_NAMES = ["background", "spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach"]
RAW_NAMES += ["aorta", "inferior vena cava", "portal and splenic veins", "pancreas", "right adrenal", "left adrenal"]


def _write_npz(folder, number, image, label):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(image.shape[2]):
        np.savez(folder / f"case{number}_slice{k:03d}.npz", image=image[..., k], label=label[..., k])


@pytest.fixture
def preprocessed(tmp_path, draw_volume):
    """Hounsfield units and classes of case 0005, and the folder that holds it as slices in [0, 1]."""
    units, label = draw_volume(5, tuple(range(9)))
    units = np.clip(units, -125, 275)
    _write_npz(tmp_path / "raw/train_npz", "0005", ((units + 125) / 400).astype(np.float32), label.astype(np.float32))
    return units, label, tmp_path / "raw"


def test_numbering_by_name():
    assert list(RAW_VALUES) != sorted(RAW_VALUES)
    for value, name in enumerate(RAW_NAMES):
        assert RAW_VALUES[value] == (ORGANS.index(name) + 1 if name in ORGANS else 0)


def test_published_split_is_the_committed_one():
    split = json.loads(SYNAPSE_JSON.read_text())
    check_leakage(split)
    ids = {name: [case["id"] for case in split[name]] for name in ("training", "validation", "test")}
    assert {name: len(cases) for name, cases in ids.items()} == {"training": 15, "validation": 3, "test": 12}
    assert ids["validation"] == ["0021", "0030", "0040"]
    assert [int(case) for case in ids["test"]] == [1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38]
    assert all(section_of(case) == name for name, cases in ids.items() for case in cases)
    assert split["folds"] == deal_folds({case: case for case in [*ids["training"], *ids["validation"]]})
    assert split["label_values"] == {str(value): number for value, number in sorted(RAW_VALUES.items())}
    with pytest.raises(ValueError, match="scan 0011 is none of the 30"):
        section_of("0011")


def test_ct_organs_sample_goes_through_and_back(data_root, tmp_path, caplog):
    source = data_root / "ct_organs_sample"
    dataset_dir, datalist = prepare_dataset("synapse", source, tmp_path)
    assert "0 of 18 training scans (validation included) give 0 slices; the published split has 2211" in caplog.text
    (case,) = load_volumes(datalist, dataset_dir, "test")
    raw = nibabel.load(source / "label/label0001.nii.gz")
    values = np.asarray(raw.dataobj)
    eight = np.zeros_like(values)
    for value, name in enumerate(RAW_NAMES):
        eight[values == value] = ORGANS.index(name) + 1 if name in ORGANS else 0
    assert set(np.unique(values)) == set(range(14)) - {5}
    assert set(np.unique(eight)) == set(range(9))

    prepared = LoadVolumed()(case)
    assert prepared["image"].dtype.is_floating_point and prepared["image"].shape == (1, 122, 101, 112)
    mask, affine = restore_to_source(prepared["label"][0].numpy(), read_geometry(case))
    np.testing.assert_array_equal(mask, eight)
    np.testing.assert_array_equal(affine, raw.affine)
    units = nibabel.as_closest_canonical(nibabel.load(source / "img/img0001.nii.gz"))
    np.testing.assert_array_equal(prepared["image"][0].numpy(), np.asarray(units.dataobj))
    np.testing.assert_allclose(prepared["label"].affine.numpy(), units.affine)
    assert case["spacing"] == pytest.approx([3, 3, 3])


@pytest.mark.parametrize("below", ["RawData/Training", "Training", "."])
def test_raw_layouts(tmp_path, write_nifti, draw_volume, below):
    for number in ("0005", "0021", "0038"):
        for kind, array in zip(("img", "label"), draw_volume(int(number), tuple(range(14))), strict=True):
            write_nifti(tmp_path / "raw" / below / kind / f"{kind}{number}.nii.gz", array)
    _, datalist = prepare_dataset("synapse", tmp_path / "raw", tmp_path / "out")
    content = json.loads(datalist.read_text())
    ids = [[case["id"] for case in content[name]] for name in ("training", "validation", "test")]
    assert ids == [["0005"], ["0021"], ["0038"]]
    assert content["label_names"] == ORGANS and content["exclusive"] is True
    assert content["folds"] == {"0": ["0021"], "1": ["0005"]}


def test_as_many_slices_as_published_need_no_words(tmp_path, write_nifti, monkeypatch, caplog, draw_volume):
    monkeypatch.setattr("hidiff_monai.data.prepare.synapse.NUM_TRAINING_SLICES", 12)
    for number in ("0005", "0021", "0038"):
        for kind, array in zip(("img", "label"), draw_volume(int(number), (0, 1)), strict=True):
            write_nifti(tmp_path / "raw" / kind / f"{kind}{number}.nii.gz", array)
    with caplog.at_level(logging.WARNING):
        prepare_dataset("synapse", tmp_path / "raw", tmp_path / "out")
    assert caplog.text == ""


def test_slices_become_the_volume_in_hounsfield_units(preprocessed, tmp_path):
    units, label, raw = preprocessed
    dataset_dir, datalist = prepare_dataset("synapse", raw, tmp_path / "out")
    (case,) = load_volumes(datalist, dataset_dir, "training")
    prepared = LoadVolumed()(case)
    np.testing.assert_array_equal(prepared["image"][0].numpy(), units)
    np.testing.assert_array_equal(prepared["label"][0].numpy(), label)
    assert np.load(case["image"]).dtype == np.int16


def test_preprocessed_slices_have_no_spacing(preprocessed, tmp_path):
    dataset_dir, datalist = prepare_dataset("synapse", preprocessed[2], tmp_path / "out")
    content = json.loads(datalist.read_text())
    assert content["training"][0]["spacing"] is None
    assert "spacing is null, distances can be given in voxels only" in content["description"]
    (case,) = load_volumes(datalist, dataset_dir, "training")
    assert read_geometry(case)["spacing"] is None
    assert "spacing" not in case  # so that a loader can put it into a batch
    (batch,) = DataLoader(Dataset([case], LoadVolumed()), batch_size=1)
    assert batch["id"] == ["0005"]


def test_volume_files_are_read_depth_first(preprocessed, tmp_path, monkeypatch):
    units, label, raw = preprocessed
    stacks = {"image": np.moveaxis((units + 125) / 400, 2, 0), "label": np.moveaxis(label, 2, 0)}
    if importlib.util.find_spec("h5py"):
        import h5py

        with h5py.File(raw / "case0001.npy.h5", "w") as file:
            file.update(stacks)
    else:
        _pretend_h5py(monkeypatch, stacks)
        (raw / "case0001.npy.h5").write_bytes(b"stands for it")
    (raw / "train_npz").rename(tmp_path / "elsewhere")
    dataset_dir, datalist = prepare_dataset("synapse", raw, tmp_path / "out")
    (case,) = load_volumes(datalist, dataset_dir, "test")
    np.testing.assert_array_equal(LoadVolumed()(case)["image"][0].numpy(), units)
    np.testing.assert_array_equal(LoadVolumed()(case)["label"][0].numpy(), label)


def _pretend_h5py(monkeypatch, stacks):
    """h5py is no dependency of this package: where it is absent a module with the one class used stands in."""

    class File(dict):
        def __init__(self, *_):
            super().__init__(stacks)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    module = types.ModuleType("h5py")
    module.File = File
    module.__spec__ = importlib.util.spec_from_loader("h5py", loader=None)
    monkeypatch.setitem(sys.modules, "h5py", module)


def test_volume_files_without_h5py_name_the_package(tmp_path, monkeypatch):
    (tmp_path / "case0001.npy.h5").write_bytes(b"")
    monkeypatch.setattr(npz.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="case0001.npy.h5 needs the package h5py.*pip install h5py"):
        prepare_dataset("synapse", tmp_path, tmp_path / "out")


def test_broken_slices_are_named(preprocessed, tmp_path):
    units, label, raw = preprocessed
    _write_npz(raw / "train_npz", "0006", units.astype(float), label + 6)
    (raw / "train_npz/case0005_slice002.npz").unlink()
    file = raw / "train_npz/case0005_slice004.npz"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match="no datalist written") as error:
        prepare_dataset("synapse", raw, tmp_path / "out")
    lines = str(error.value).splitlines()[1:]
    assert "slices [2] missing" in lines[0]
    assert "case0005_slice004.npz: not readable" in lines[1]
    assert "case0006_slice000.npz: grey values from" in lines[2]
    assert "case0006_slice001.npz: values [9" in lines[4]


def test_a_scan_as_slices_and_as_volume_is_in_two_splits(preprocessed, tmp_path, monkeypatch):
    units, label, raw = preprocessed
    _pretend_h5py(monkeypatch, {"image": np.zeros((6, 12, 10)), "label": np.zeros((6, 12, 10))})
    (raw / "case0005.npy.h5").write_bytes(b"stands for it")
    with pytest.raises(ValueError, match=r"case0005.npy.h5: case 0005 is also .*case0005_slice000.npz"):
        prepare_dataset("synapse", raw, tmp_path / "out")


def test_numbering_from_another_script_is_suspected(preprocessed, tmp_path, caplog):
    _, label, raw = preprocessed  # every class is as frequent as the next: no gallbladder
    prepare_dataset("synapse", raw, tmp_path / "out")
    assert "seem to number the organs otherwise" in caplog.text


def test_slices_without_leading_zeros_are_stacked_by_number(preprocessed, tmp_path):
    units, label, raw = preprocessed
    for file in (raw / "train_npz").iterdir():
        file.unlink()
    numbers = [*range(units.shape[2])] * 2  # twelve slices: 10 and 11 come before 2 by name
    for k, number in enumerate(numbers):
        image = ((units[..., number] + 125) / 400 * (1 - k / 100)).astype(np.float32)
        np.savez(raw / f"train_npz/case0005_slice{k}.npz", image=image, label=label[..., number])
    dataset_dir, datalist = prepare_dataset("synapse", raw, tmp_path / "out")
    (case,) = load_volumes(datalist, dataset_dir, "training")
    found = LoadVolumed()(case)["image"][0].numpy()
    expected = np.stack([(units[..., number] + 125) * (1 - k / 100) - 125 for k, number in enumerate(numbers)], axis=2)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_an_array_named_npz_is_named(preprocessed, tmp_path):
    file = preprocessed[2] / "train_npz/case0005_slice003.npz"
    with open(file, "wb") as stream:
        np.save(stream, np.zeros((12, 10)))
    with pytest.raises(ValueError, match="case0005_slice003.npz: not readable"):
        prepare_dataset("synapse", preprocessed[2], tmp_path / "out")
