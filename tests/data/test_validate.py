"""Every kind of bad input is reported once, with the file's name and the mend."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from hidiff_monai.data import check_dataset, read_pixels, require_valid, write_phantoms

DRIVE_JSON = Path(__file__).parents[2] / "data_lists" / "drive.json"
IMAGE = "training/images/01_training.tif"
LABEL = "training/1st_manual/01_manual1.gif"
REGION = "training/mask/01_training_mask.gif"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 2, 0, 0, size=(64, 72), progress=False)


@pytest.fixture
def copy(sound, tmp_path):
    """A set to break; its datalist is `copy / "datalist.json"`."""
    return Path(shutil.copytree(sound.parent, tmp_path / "set"))


def _only_problem(root):
    problems = check_dataset(root / "datalist.json", root, progress=False)
    assert len(problems) == 1, [str(problem) for problem in problems]
    assert "\n" not in str(problems[0])
    assert problems[0].file in str(problems[0])
    return problems[0]


def _edit(root, **changes):
    path = root / "datalist.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_drive_is_valid(drive_dir):
    assert check_dataset(DRIVE_JSON, drive_dir, progress=False) == []


def test_drive_sizes_and_values(drive_dir):
    image = read_pixels(drive_dir / "training/images/21_training.tif")
    label = read_pixels(drive_dir / "training/1st_manual/21_manual1.gif")
    assert image.array.shape == (584, 565, 3)
    assert label.array.shape == (584, 565, 1)
    assert np.unique(label.array).tolist() == [0, 255]


def test_a_sound_set_has_no_problems(sound):
    assert check_dataset(sound, sound.parent, progress=False) == []
    require_valid(sound, sound.parent)


def test_an_empty_label_is_legal(copy):
    Image.new("L", (72, 64)).save(copy / LABEL)
    assert check_dataset(copy / "datalist.json", copy, progress=False) == []


@pytest.mark.parametrize("name", [IMAGE, LABEL, REGION])
def test_missing_truncated_and_foreign_files(copy, name):
    file, content = copy / name, (copy / name).read_bytes()
    file.unlink()
    assert (_only_problem(copy).file, _only_problem(copy).found) == (str(file), "no such file")
    for bad in (content[: len(content) // 2], b"<html>not found</html>", b""):
        file.write_bytes(bad)
        problem = _only_problem(copy)
        assert problem.file == str(file)
        assert problem.found.startswith("not readable")
        assert "again" in problem.mend


def test_wrong_number_of_channels(copy):
    Image.open(copy / IMAGE).convert("RGBA").save(copy / IMAGE)
    problem = _only_problem(copy)
    assert (problem.key, problem.found, problem.expected) == ("image", "4 channel(s)", "3")
    assert "alpha" in problem.mend


@pytest.mark.parametrize(("name", "key"), [(LABEL, "label"), (REGION, "region")])
def test_another_size(copy, name, key):
    Image.open(copy / name).resize((64, 72)).point(lambda grey: 255 * (grey > 0)).save(copy / name, optimize=False)
    problem = _only_problem(copy)
    assert (problem.key, problem.found) == (key, "height 72, width 64")
    assert problem.expected == "the image's height 64, width 72"


def test_stray_label_values_are_listed(copy):
    label = np.zeros((64, 72), np.uint8)
    label[0, :7] = [1, 2, 3, 4, 5, 6, 255]
    Image.fromarray(label).save(copy / LABEL, optimize=False)
    problem = _only_problem(copy)
    assert problem.found == "grey values {1, 2, 3, 4, 5} and 1 more"
    assert problem.expected == "only {0, 255}"
    assert "label_values" in problem.mend


def test_coloured_label(copy):
    _edit(copy, training=[{"id": "01", "image": IMAGE, "label": IMAGE}])
    assert _only_problem(copy).found == "3 channels"


@pytest.mark.parametrize(("values", "found"), [([0, 7, 255], "grey values {0, 7, 255}"), ([0], "the region is empty")])
def test_region_must_be_binary_and_not_empty(copy, values, found):
    region = np.resize(np.array(values, np.uint8), (64, 72))
    Image.fromarray(region).save(copy / REGION, optimize=False)
    problem = _only_problem(copy)
    assert (problem.key, problem.found) == ("region", found)


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".nii.gz"])
def test_pixels_that_are_not_finite(copy, suffix):
    array = np.zeros((64, 72), np.float32)
    array[3, 4:6] = [np.nan, np.inf]
    file = copy / f"float{suffix}"
    if suffix == ".tif":
        Image.fromarray(array).save(file)
    elif suffix == ".npy":
        np.save(file, array)
    else:
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), file)
    _edit(copy, channels=1, training=[{"id": "a", "image": file.name}])
    problem = _only_problem(copy)
    assert (problem.file, problem.found) == (str(file), "2 pixels are NaN, infinite or beyond float32")


def test_nifti_label_must_share_the_affine(copy):
    volume = np.zeros((8, 9, 5), np.uint8)
    shifted = np.diag([1.0, 1.0, 3.0, 1.0])
    for name, affine in (("image", np.eye(4)), ("same", np.eye(4)), ("label", shifted)):
        nibabel.save(nibabel.Nifti1Image(volume, affine), copy / f"{name}.nii.gz")
    _edit(copy, channels=1, training=[{"id": "a", "image": "image.nii.gz", "label": "same.nii.gz"}])
    assert check_dataset(copy / "datalist.json", copy, progress=False) == []
    _edit(copy, training=[{"id": "a", "image": "image.nii.gz", "label": "label.nii.gz"}])
    assert _only_problem(copy).found.startswith("affine")


def test_truncated_nifti(copy):
    file = copy / "volume.nii.gz"
    noise = np.random.default_rng(0).normal(size=(16, 16, 16))
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), file)
    file.write_bytes(file.read_bytes()[:2000])
    _edit(copy, channels=1, training=[{"id": "a", "image": file.name}])
    assert _only_problem(copy).found.startswith("not readable")


def test_one_bit_and_palette_masks_read_as_the_grey_they_show(tmp_path):
    mask = np.eye(8, dtype=bool)
    Image.fromarray(mask).save(tmp_path / "bit.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "palette.gif", optimize=True)
    assert Image.open(tmp_path / "palette.gif").mode == "P"
    for name in ("bit.png", "palette.gif"):
        np.testing.assert_array_equal(read_pixels(tmp_path / name).array[..., 0], mask * 255)


def test_require_valid_lists_all_then_counts(copy, tmp_path):
    for file in (copy / "training").rglob("*.gif"):
        file.unlink()
    with pytest.raises(ValueError, match=r"problem\(s\) found") as error:
        require_valid(copy / "datalist.json", copy)
    gone = str(error.value).count("no such file")
    assert gone == str(error.value).count("\n") > 1
    cases = [{"id": str(number), "image": f"{number}.png"} for number in range(24)]
    Image.new("L", (4, 4)).save(tmp_path / "0.png")
    (tmp_path / "long.json").write_text(json.dumps({"channels": 1, "label_values": {}, "training": cases}))
    with pytest.raises(ValueError, match=r"and 3 more") as error:
        require_valid(tmp_path / "long.json", tmp_path)
    assert str(error.value).count("no such file") == 20


def test_a_wrong_folder_is_said_once(sound, tmp_path):
    with pytest.raises(ValueError, match=r"none of the \d images is there; expected training/images.* dataset_dir"):
        check_dataset(sound, tmp_path, progress=False)


def test_only_the_named_sections_are_checked(copy):
    (copy / IMAGE).unlink()
    assert check_dataset(copy / "datalist.json", copy, ["validation"], progress=False) == []
    with pytest.raises(ValueError, match=r"no sections \['valid'\]"):
        check_dataset(copy / "datalist.json", copy, ["valid"])


def test_a_case_without_label_among_others_is_a_problem(copy):
    datalist = json.loads((copy / "datalist.json").read_text())
    del datalist["training"][0]["label"]
    _edit(copy, training=datalist["training"])
    problem = _only_problem(copy)
    assert (problem.key, problem.case_id) == ("label", datalist["training"][0]["id"])
    assert "no label" in problem.found


def test_a_case_in_two_sections_stops_the_check(copy):
    datalist = json.loads((copy / "datalist.json").read_text())
    _edit(copy, validation=[datalist["training"][0]])
    with pytest.raises(ValueError, match="training"):
        check_dataset(copy / "datalist.json", copy, progress=False)
