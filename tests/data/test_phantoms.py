"""Phantoms: the same on every call, in DRIVE's layout and look, and never over somebody's files."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hidiff_monai.data import check_dataset, load_datalist, write_phantoms


def _read(case, key):
    return np.asarray(Image.open(case[key]))


def _all_bytes(root):
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 6, 1, 2, progress=False)


@pytest.fixture(scope="module")
def cases(phantoms):
    return load_datalist(phantoms, phantoms.parent, "training")


def test_layout_is_that_of_drive(phantoms):
    datalist = json.loads(phantoms.read_text())
    assert [case["id"] for case in datalist["test"]] == ["01", "02"]
    assert datalist["training"][0] == {
        "id": "03",
        "patient": "03",
        "image": "training/images/03_training.tif",
        "label": "training/1st_manual/03_manual1.gif",
        "region": "training/mask/03_training_mask.gif",
    }
    assert datalist["validation"][0]["image"] == "training/images/09_training.tif"
    assert datalist["test"][0]["region"] == "test/mask/01_test_mask.gif"
    assert check_dataset(phantoms, phantoms.parent, progress=False) == []


def test_files_have_drives_modes(cases):
    for key, mode in (("image", "RGB"), ("label", "L"), ("region", "L")):
        with Image.open(cases[0][key]) as image:
            assert (image.mode, image.size) == (mode, (160, 160))
    assert np.unique(_read(cases[0], "label")).tolist() == [0, 255]


def test_region_is_the_inscribed_disc(cases):
    area = (_read(cases[0], "region") > 0).sum()
    assert area == pytest.approx(np.pi * (0.475 * 160) ** 2, rel=0.01)


def test_vessel_share_is_that_of_a_fundus(cases):
    for case in cases:
        label, region = _read(case, "label") > 0, _read(case, "region") > 0
        assert not (label & ~region).any()
        assert 0.08 <= label.sum() / region.sum() <= 0.14


def test_vessels_are_darker_than_their_surround_and_mainly_in_green(cases):
    drops = []
    for case in cases:
        image, label = _read(case, "image").astype(float), _read(case, "label") > 0
        inside = ndimage.binary_erosion(_read(case, "region") > 0, iterations=6)
        surround = ndimage.binary_dilation(label, iterations=4) & ~ndimage.binary_dilation(label, iterations=1) & inside
        drops.append((image[surround].mean(0) - image[label & inside].mean(0)) / image[surround].mean(0))
    red, green, _ = np.mean(drops, axis=0)
    assert 0.05 < green < 0.3
    assert green > 2 * red


def test_vessels_taper_from_trunks_to_thin_tips(cases):
    label = _read(cases[0], "label") > 0
    half_widths = ndimage.distance_transform_edt(label)
    assert half_widths.max() >= 2
    opened = ndimage.binary_opening(label, np.ones((3, 3)))
    assert 0.15 < 1 - opened.sum() / label.sum() < 0.95  # the share of vessels thinner than 3 pixels


def test_colours_are_a_fundus(cases):
    for case in cases:
        red, green, blue = _read(case, "image")[_read(case, "region") > 0].mean(0)
        assert red > 1.3 * green > 1.3 * blue
        assert _read(case, "image")[_read(case, "region") == 0].mean() < 12


def test_same_seed_same_files_and_another_seed_others(phantoms, tmp_path):
    again = write_phantoms(tmp_path / "again", 6, 1, 2, progress=False)
    assert _all_bytes(again.parent) == _all_bytes(phantoms.parent)
    other = write_phantoms(tmp_path / "other", 1, 0, 2, seed=1, progress=False)
    image = "training/images/03_training.tif"
    assert (other.parent / image).read_bytes() != (phantoms.parent / image).read_bytes()


def test_more_cases_leave_the_earlier_ones_as_they_were(phantoms, tmp_path):
    fewer = write_phantoms(tmp_path / "fewer", 2, 0, 2, progress=False).parent
    files = _all_bytes(fewer)
    del files["datalist.json"]
    assert files.items() <= _all_bytes(phantoms.parent).items()


def test_no_two_phantoms_are_alike(cases):
    assert len({_read(case, "label").tobytes() for case in cases}) == len(cases)


def test_the_same_set_is_returned_at_once(phantoms, monkeypatch):
    monkeypatch.setattr("hidiff_monai.data.phantoms.draw_phantom", None)  # drawing anything would fail
    before = {file: file.stat().st_mtime_ns for file in phantoms.parent.rglob("*")}
    assert write_phantoms(phantoms.parent, 6, 1, 2, progress=False) == phantoms
    assert {file: file.stat().st_mtime_ns for file in phantoms.parent.rglob("*")} == before


def test_other_phantoms_and_other_files_are_never_overwritten(phantoms, tmp_path):
    with pytest.raises(ValueError, match="holds phantoms with.*'seed': 0.*another output_dir"):
        write_phantoms(phantoms.parent, 6, 1, 2, seed=1, progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        write_phantoms(tmp_path, 1, 0, 0, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_run_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("hidiff_monai.data.phantoms.draw_phantom", None)
    with pytest.raises(TypeError):
        write_phantoms(tmp_path / "set", 1, 0, 0, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("numbers", "options", "message"),
    [
        ((0, 0, 0), {}, "expected at least 0 each and 1 in all"),
        ((1, -1, 0), {}, "expected at least 0 each"),
        ((1, 0, 0), {"size": (32, 160)}, r"expected \(H, W\) of at least 64"),
        ((1, 0, 0), {"seed": -1}, "expected 0 or more"),
    ],
)
def test_arguments_out_of_range(tmp_path, numbers, options, message):
    with pytest.raises(ValueError, match=message):
        write_phantoms(tmp_path, *numbers, progress=False, **options)


def test_rows_come_first_in_size(tmp_path):
    path = write_phantoms(tmp_path, 1, 0, 0, size=(96, 64), progress=False)
    assert _read(load_datalist(path, tmp_path, "training")[0], "image").shape == (96, 64, 3)
