"""What is found in made-up volumes and pictures whose sizes, values and objects are known."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import ExifTags, Image

from hidiff_monai.data.inspection import inspect_dataset
from hidiff_monai.data.prepare.folder import Layout, prepare_folder

SPACING = (0.5, 1.0, 2.0)
VOLUMES = Layout(("i/{id}.nii",), "l/{id}.nii")


def write_volume(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    for kind, array in (("i", image), ("l", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, np.diag([*SPACING, 1])), folder / kind / f"{name}.nii")


@pytest.fixture
def blocks(tmp_path):
    """Volumes with a block of 8² in class 1, value 100, and one of 4 × 16 in class 2, value 200, in half the slices."""

    def make(lowest: int = 0):
        for number in range(4):
            image = np.full((20 + number, 30, 8), lowest, np.int16)
            label = np.zeros(image.shape, np.uint8)
            label[2:10, 2:10, :4] = 1
            label[12:16, 2:18, :4] = 2
            image += np.choose(label, [0, 100 - lowest, 200 - lowest]).astype(np.int16)
            image[0, 0, 0] = number
            write_volume(tmp_path / "raw", f"c{number}", image, label)
        return prepare_folder(tmp_path / "raw", tmp_path / "out", VOLUMES)[::-1]

    return make


def test_volumes(blocks):
    found = inspect_dataset(*blocks())
    assert (found.is_volume, found.modality, found.channels) == (True, "MR or other", 1)
    assert found.cases == {"training": 2, "validation": 1, "test": 1}
    assert (found.num_patients, found.num_planes, found.num_examined) == (4, 16, 2)
    assert found.sizes == ((20, 30, 8), (23, 30, 8))
    assert found.spacing == (SPACING, SPACING)
    first, second = found.classes
    assert (first.name, first.presence, first.extent_px) == ("class 1", 1.0, 8.0)
    assert second.extent_px == 8.0  # the same area
    assert second.width_px < first.width_px
    assert first.share == second.share
    np.testing.assert_allclose(found.percentiles[0], [100, 100, 150, 200, 200])
    rows = dict(found.rows())
    assert rows["size, X × Y × D"] == "20–23 × 30 × 8"
    assert rows["spacing, mm"] == "0.5 × 1 × 2"


def test_air_makes_it_ct(blocks):
    found = inspect_dataset(*blocks(lowest=-1000))
    assert found.modality == "CT"
    np.testing.assert_allclose(found.percentiles[0], [100, 100, 150, 200, 200])


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_the_size_of_turned_pictures_is_that_in_which_they_are_read(tmp_path, suffix):
    (tmp_path / "raw").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for number in range(4):
        picture = np.full((60, 80 + number), 50 * number, np.uint8)
        mask = np.zeros_like(picture)
        mask[20:40, 20:40] = 255
        Image.fromarray(picture).save(tmp_path / f"raw/{number}.{suffix}", exif=exif)
        Image.fromarray(mask).save(tmp_path / f"raw/{number}_mask.png", exif=exif)
    layout = Layout((f"{{id}}.{suffix}",), "{id}_mask.png")
    root, datalist = prepare_folder(tmp_path / "raw", tmp_path / "out", layout)
    assert inspect_dataset(datalist, root).sizes == ((80, 60), (83, 60))


@pytest.mark.parametrize("width", [4, 12])
def test_the_width_of_a_stripe_in_pictures(tmp_path, width):
    (tmp_path / "raw").mkdir()
    for number in range(4):
        picture = np.full((60, 80 + number), number, np.uint8)
        mask = np.zeros_like(picture)
        mask[:, 10 : 10 + width] = 255
        Image.fromarray(picture).save(tmp_path / f"raw/{number}.png")
        Image.fromarray(mask).save(tmp_path / f"raw/{number}_mask.png")
    root, datalist = prepare_folder(tmp_path / "raw", tmp_path / "out", Layout(("{id}.png",), "{id}_mask.png"))
    found = inspect_dataset(datalist, root)
    assert (found.is_volume, found.modality, found.spacing) == (False, "photograph", None)
    assert found.sizes == ((60, 80), (60, 83))
    assert found.classes[0].width_px == pytest.approx(width, abs=1)
    assert found.classes[0].extent_px == pytest.approx(np.sqrt(60 * width))


def test_a_truncated_picture_is_named(tmp_path):
    (tmp_path / "raw").mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 255, (60, 80), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"raw/{number}.png")
        Image.fromarray((noise > 99).astype(np.uint8) * 255).save(tmp_path / f"raw/{number}_mask.png")
    root, datalist = prepare_folder(tmp_path / "raw", tmp_path / "out", Layout(("{id}.png",), "{id}_mask.png"))
    file = tmp_path / "raw" / (json.loads(datalist.read_text())["training"][0]["id"] + ".png")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"{file.name}: not readable .*; expected a complete image file"):
        inspect_dataset(datalist, root)


def test_what_cannot_be_inspected(blocks):
    datalist, root = blocks()
    content = json.loads(datalist.read_text())
    datalist.write_text(json.dumps({**content, "training": []}))
    with pytest.raises(ValueError, match="no case trains; expected some"):
        inspect_dataset(datalist, root)
    datalist.write_text(json.dumps(content))
    for case in content["training"]:
        np.save(root / case["label"], np.zeros_like(np.load(root / case["label"])))
    with pytest.raises(ValueError, match="no label of the training section holds a class"):
        inspect_dataset(datalist, root)
