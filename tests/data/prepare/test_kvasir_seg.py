"""Both layouts, JPEG masks by threshold, and look-alikes kept on one side or named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.data import check_dataset, check_leakage, load_datalist
from hidiff_monai.data.prepare import DATASETS, kvasir_seg

COMMITTED = Path(__file__).parents[3] / "data_lists" / "kvasir_seg.json"
SIZES = {"training": 80, "validation": 10, "test": 10}


@pytest.fixture
def small(monkeypatch):
    """Lets a download be complete with a tenth of the images."""
    monkeypatch.setattr(kvasir_seg, "NUM_IMAGES", SIZES)


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory, draw_picture, draw_mask):
    """images/ and masks/, the masks in colour as the site has them; ck_00 was taken a moment after ck_50."""
    folder = tmp_path_factory.mktemp("Kvasir-SEG")
    for number in range(100):
        draw_picture(folder / "images" / f"ck_{number:02d}.jpg")
        draw_mask(folder / "masks" / f"ck_{number:02d}.jpg", "RGB")
    image = np.asarray(Image.open(folder / "images" / "ck_50.jpg")).astype(int) + 2
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / "ck_00.jpg", quality=95)
    return folder


def _in_folders(source, target):
    """The same files as train, validation and test; ck_00 in train, ck_50 in test."""
    order = [f"ck_{number:02d}.jpg" for number in range(100)]
    places = ["train"] * 50 + ["test"] * 10 + ["validation"] * 10 + ["train"] * 30
    for name, place in zip(order, places, strict=True):
        for kind in ("images", "masks"):
            (target / place / kind).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / kind / name, target / place / kind / name)
    return target


def test_the_download_is_split_80_10_10_with_look_alikes_together(small, downloaded, tmp_path):
    path = DATASETS["kvasir_seg"](downloaded, tmp_path)
    datalist = json.loads(path.read_text())
    assert {section: len(datalist[section]) for section in SIZES} == SIZES
    patients = {case["id"]: case["patient"] for section in SIZES for case in datalist[section] if "patient" in case}
    assert patients == {"ck_00": "ck_00", "ck_50": "ck_00"}
    assert datalist["label_threshold"] == 127
    check_leakage(datalist)
    first = path.read_bytes()
    assert DATASETS["kvasir_seg"](downloaded, tmp_path).read_bytes() == first


def test_folders_keep_their_split_and_look_alikes_are_named(small, downloaded, tmp_path):
    source = _in_folders(downloaded, tmp_path / "source")
    path = DATASETS["kvasir_seg"](source, tmp_path)
    datalist = json.loads(path.read_text())
    assert {section: len(datalist[section]) for section in SIZES} == SIZES
    assert "train_ck_00 = test_ck_50" in datalist["note"]
    assert load_datalist(path, source, "test")[0]["image"] == str(source / "test/images/ck_50.jpg")
    (source / "test/masks/ck_50.jpg").unlink()
    (source / "train/images/ck_01.jpg").unlink()
    with pytest.raises(ValueError, match=r"2 problem\(s\)") as error:
        DATASETS["kvasir_seg"](source, tmp_path)
    assert "test/masks/ck_50.jpg: no such file" in str(error.value)
    assert "train/images/ck_01.jpg: no such file" in str(error.value)


def test_another_number_of_images_is_refused(tmp_path, draw_picture):
    draw_picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"\{'all': 1\} images; expected \{'all': 1000\}"):
        DATASETS["kvasir_seg"](tmp_path, tmp_path)


def test_real_data_have_one_pair_of_look_alikes_in_two_sections(data_root):
    datalist = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert {section: len(datalist[section]) for section in SIZES} == kvasir_seg.NUM_IMAGES
    assert "train_222 = test_16." in datalist["note"]
    assert check_dataset(COMMITTED, data_root / "kvasir_seg", ["test"], progress=False) == []
    load_datalist(COMMITTED, data_root / "kvasir_seg", "test")
