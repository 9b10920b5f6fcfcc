"""The flat folder with 28 images: children stay whole, and every broken file is named at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.data import check_dataset, load_datalist, read_pixels
from hidiff_monai.data.prepare import DATASETS

COMMITTED = Path(__file__).parents[3] / "data_lists" / "chase_db1.json"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory, draw_picture, draw_mask):
    folder = tmp_path_factory.mktemp("CHASEDB1")
    for stem in (f"Image_{child:02d}{eye}" for child in range(1, 15) for eye in "LR"):
        draw_picture(folder / f"{stem}.jpg")
        for observer in ("1stHO", "2ndHO"):
            draw_mask(folder / f"{stem}_{observer}.png", "1")
    return folder


@pytest.fixture
def download(made_up, tmp_path):
    """A folder to break."""
    return Path(shutil.copytree(made_up, tmp_path / "CHASEDB1"))


def _children(section):
    return [case["patient"] for case in json.loads(COMMITTED.read_text())[section]]


def test_first_20_images_train_and_validate_and_children_stay_whole():
    assert _children("training") == [f"{child:02d}" for child in range(1, 9) for _ in "LR"]
    assert _children("validation") == ["09", "09", "10", "10"]
    assert _children("test") == [f"{child:02d}" for child in range(11, 15) for _ in "LR"]


def test_made_up_download_gives_the_committed_split(made_up, tmp_path):
    path = DATASETS["chase_db1"](made_up, tmp_path)
    assert path == tmp_path / "datalist.json"
    assert path.read_text(encoding="utf-8") == COMMITTED.read_text(encoding="utf-8")
    case = load_datalist(path, made_up, "test")[0]
    assert (case["id"], case["patient"]) == ("11L", "11")
    assert case["second_label"] == str(made_up / "Image_11L_2ndHO.png")


def test_every_broken_file_is_named_at_once_and_the_earlier_datalist_kept(download, tmp_path):
    datalist = DATASETS["chase_db1"](download, tmp_path)
    before = datalist.read_bytes()
    (download / "Image_01L_1stHO.png").unlink()
    truncated = download / "Image_02R.jpg"
    truncated.write_bytes(truncated.read_bytes()[:200])
    Image.fromarray(np.full((16, 24), 7, np.uint8)).save(download / "Image_03L_1stHO.png")
    Image.new("1", (24, 17)).save(download / "Image_11L_1stHO.png")
    shutil.copyfile(download / "Image_04L.jpg", download / "Image_12L.jpg")
    with pytest.raises(ValueError, match=r"5 problem\(s\), no datalist written") as error:
        DATASETS["chase_db1"](download, tmp_path)
    lines = str(error.value).splitlines()[1:]
    for name, found in (
        ("Image_01L_1stHO.png", "no such file"),
        ("Image_02R.jpg", "not readable"),
        ("Image_03L_1stHO.png", "grey values {7}"),
        ("Image_11L_1stHO.png", "height 17"),
        ("Image_12L.jpg", "in 'test', the same image as"),
    ):
        assert [line for line in lines if name in line and found in line], (name, found)
    assert datalist.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["datalist.json"]


def test_source_that_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        DATASETS["chase_db1"](tmp_path / "nowhere", tmp_path)


def test_real_data_are_valid_and_their_masks_read_as_0_and_255(data_root):
    source = data_root / "chase_db1"
    assert check_dataset(COMMITTED, source, progress=False) == []
    label = read_pixels(source / "Image_01L_1stHO.png").array
    assert label.shape == (960, 999, 1)
    assert np.unique(label).tolist() == [0, 255]
