"""NIfTI files to predict: found, read in RAS, refused in words, and their masks back on the source grid."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from monai.transforms import NormalizeIntensity
from nibabel.orientations import inv_ornt_aff

from hidiff_monai.data import LoadScand, NormalizeByVolumed, list_volumes
from hidiff_monai.io import SaveVolumePrediction, on_source_grid
from hidiff_monai.io.predictions import write_volume_maps
from tests.io.series import make_series, make_volume

LPS = np.diag([-0.7, -0.8, 3.0, 1.0])
TURNED = np.array([[0, 0, 3.0, 5], [-0.7, 0, 0, 6], [0, 0.8, 0, 7], [0, 0, 0, 1]])  # axes run P, S, R


def write(path: Path, array: np.ndarray, affine: np.ndarray = LPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(np.int16)


@pytest.mark.parametrize("affine", [LPS, TURNED])
def test_a_mask_goes_back_onto_the_grid_of_the_file(volume: np.ndarray, affine: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "in" / "ct.nii.gz", volume, affine)
    item = LoadScand()(list_volumes(tmp_path / "in")[0])
    assert item["id"] == "ct" and "".join(nibabel.aff2axcodes(item["image"].affine.numpy())) == "RAS"
    found = {"refined": (item["image"] > 50).to(torch.uint8), "entropy": item["image"] / 100}
    SaveVolumePrediction(tmp_path / "out")({**item, "pred": found})
    mask = nibabel.load(tmp_path / "out" / "ct_mask.nii.gz")
    assert np.array_equal(np.asanyarray(mask.dataobj), volume > 50) and mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask.affine, nibabel.load(tmp_path / "in" / "ct.nii.gz").affine)
    entropy = nibabel.load(tmp_path / "out" / "ct_entropy.nii.gz")
    np.testing.assert_allclose(entropy.get_fdata(), volume / 100, rtol=1e-6)


def test_channels_come_in_their_order_and_are_normalised_like_monai_s(tmp_path: Path) -> None:
    arrays = {name: np.random.default_rng(i).integers(0, 9, (4, 4, 3)) for i, name in enumerate(("t2", "t1"))}
    for name, array in arrays.items():
        write(tmp_path / "p1" / f"p1_{name}.nii.gz", array.astype(np.int16), np.eye(4))
    item = LoadScand()(list_volumes(tmp_path, ["t1", "t2"])[0])
    expected = np.stack([arrays["t1"], arrays["t2"]]).astype(np.float32)
    assert np.array_equal(item["image"].numpy(), expected)
    normalised = NormalizeByVolumed()(item)["image"].numpy()
    np.testing.assert_allclose(normalised, NormalizeIntensity(nonzero=True, channel_wise=True)(expected), atol=1e-5)


def test_every_missing_sequence_is_named(volume: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "p1" / "p1_t1.nii.gz", volume)
    write(tmp_path / "p2" / "p2_t1.nii.gz", volume)
    with pytest.raises(ValueError, match=r"2 file\(s\) missing: .*p1/p1_t2.nii.gz.*p2/p2_t2.nii.gz"):
        list_volumes(tmp_path, ["t1", "t2"])
    with pytest.raises(ValueError, match="p3: there is no such file or folder"):
        list_volumes(tmp_path / "p3")


def test_linked_patients_are_found_and_folders_are_no_files(volume: np.ndarray, tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        write(tmp_path / "store" / name / f"{name}_t1.nii.gz", volume)
    (tmp_path / "in" / "p3.nii.gz").mkdir(parents=True)
    for name in ("p1", "p2"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert [item["id"] for item in list_volumes(tmp_path / "in", ["t1"])] == ["p1", "p2"]
    with pytest.raises(ValueError, match="no volume found"):
        list_volumes(tmp_path / "in")


def test_names_of_sequences_may_have_parts(volume: np.ndarray, tmp_path: Path) -> None:
    for name in ("p_1_t1_pre", "p_1_t1_post"):
        write(tmp_path / f"{name}.nii.gz", volume)
    (item,) = list_volumes(tmp_path, ["t1_post", "t1_pre"])
    assert item["id"] == "p_1"
    assert [Path(file).name for file in item["image"]] == ["p_1_t1_post.nii.gz", "p_1_t1_pre.nii.gz"]
    with pytest.raises(ValueError, match="expected a name of its own for each channel"):
        list_volumes(tmp_path, ["image", "image"])


def test_a_form_that_is_not_valid_is_left_out(volume: np.ndarray, tmp_path: Path) -> None:
    """A quaternion a hair too long, as other programs write it; the file lies where its sform says."""
    image = nibabel.Nifti1Image(volume, np.diag([2, 2, 3, 1]))
    image.header["qform_code"], image.header["quatern_b"] = 1, 1.00001
    nibabel.save(image, tmp_path / "x.nii.gz")
    loaded = LoadScand()({"image": str(tmp_path / "x.nii.gz")})["image"]
    assert loaded.meta["nifti_codes"][0] == 0 and loaded.meta["nifti_codes"][1] > 0
    np.testing.assert_array_equal(loaded.meta["source_affine"], np.diag([2, 2, 3, 1]))


def test_patients_of_one_folder_are_kept_apart_and_names_must_differ(volume: np.ndarray, tmp_path: Path) -> None:
    for name in ("p1_t1", "p1_t2", "p2_t1", "p2_t2"):
        write(tmp_path / f"{name}.nii.gz", volume)
    items = list_volumes(tmp_path, ["t2", "t1"])
    assert [item["id"] for item in items] == ["p1", "p2"]
    assert [Path(file).name for file in items[1]["image"]] == ["p2_t2.nii.gz", "p2_t1.nii.gz"]
    write(tmp_path / "p1_t1.nii", volume)
    with pytest.raises(ValueError, match=r"several cases are named \['p1_t1'\]"):
        list_volumes(tmp_path)


def test_what_cannot_be_predicted_is_refused_with_its_file(volume: np.ndarray, tmp_path: Path) -> None:
    good = write(tmp_path / "good.nii.gz", volume)
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:60])
    flat = write(tmp_path / "flat.nii.gz", volume[..., 0])
    nan = write(tmp_path / "nan.nii.gz", np.full((2, 2, 2), np.nan, np.float32))
    huge = write(tmp_path / "huge.nii.gz", np.full((2, 2, 2), 1e39))
    shifted = write(tmp_path / "shifted.nii.gz", volume, np.diag([1.0, 1, 1, 1]))
    for files, words in (
        (str(cut), "cut.nii.gz: not readable"),
        (str(flat), "flat.nii.gz: shape .* expected one volume"),
        (str(nan), "nan.nii.gz: holds NaN"),
        (str(huge), "huge.nii.gz: holds NaN, infinity or numbers beyond float32"),
        ([str(good), str(shifted)], "shifted.nii.gz: grid .* is not that of .*good.nii.gz"),
    ):
        with pytest.raises(ValueError, match=words):
            LoadScand()({"id": "x", "image": files})


def patched(path: Path, volume: np.ndarray, position: int, value: bytes) -> list[dict[str, object]]:
    content = bytearray(nibabel.Nifti1Image(volume, LPS).to_bytes())
    content[position : position + len(value)] = value
    path.write_bytes(bytes(content))
    return list_volumes(path)


def test_units_are_millimetres_or_unknown(volume: np.ndarray, tmp_path: Path) -> None:
    (item,) = patched(tmp_path / "x.nii", volume, 123, b"\x07")  # no unit of the standard
    assert LoadScand()(item)["image"].shape == (1, *volume.shape)
    for code, name in ((b"\x01", "meter"), (b"\x0b", "micron")):
        with pytest.raises(ValueError, match=f"its unit is the {name}; expected mm"):
            LoadScand()(patched(tmp_path / "x.nii", volume, 123, code)[0])


def test_more_voxels_than_the_file_can_hold_are_not_allocated(volume: np.ndarray, tmp_path: Path) -> None:
    claimed = np.array([3, 20000, 20000, 20000], "<i2").tobytes()  # 16 TB
    (item,) = patched(tmp_path / "x.nii", volume, 40, claimed)
    with pytest.raises(ValueError, match=r"x.nii: not readable .*header claims 16000000000000 bytes .*: download"):
        LoadScand()(item)


SHORT_AXIS = (0.617, 0.777, -0.128, -0.397, 0.167, -0.902)  # rows and columns of a heart's planes in the body, LPS


def short_axis_affine() -> np.ndarray:
    """Voxel (column, row, slice) of 1.4, 1.4, 8 mm to RAS."""
    row, column = (np.array(part) / np.linalg.norm(part) for part in (SHORT_AXIS[:3], SHORT_AXIS[3:]))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([1.4 * row, 1.4 * column, 8 * np.cross(row, column)], axis=1)
    affine[:3, 3] = (20, -30, 40)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@pytest.mark.parametrize("flips", [(1, 1, 1), (1, -1, 1), (-1, 1, 1)])
def test_acquired_planes_stay_planes_whatever_their_place_in_the_body(tmp_path, flips):
    """An oblique short axis is the same network input as the bare picture: rows down, columns to the right."""
    picture = np.random.default_rng(0).normal(size=(9, 7, 3)).astype(np.float32)  # row, column, slice
    nibabel.save(nibabel.Nifti1Image(picture, np.eye(4)), tmp_path / "bare.nii.gz")
    nibabel.save(nibabel.Nifti1Image(picture, np.diag([1.4, 1.4, 8, 1])), tmp_path / "scaled.nii.gz")
    nibabel.save(nibabel.Nifti1Image(picture, None), tmp_path / "formless.nii.gz")
    assert nibabel.load(tmp_path / "formless.nii.gz").affine[0, 0] == -1  # by nibabel's own rule
    stored = picture.transpose(1, 0, 2)[:: flips[0], :: flips[1]]
    affine = short_axis_affine()
    affine = affine @ inv_ornt_aff([[0, flips[0]], [1, flips[1]], [2, 1]], (7, 9, 3))
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "heart.nii.gz")
    load = LoadScand(acquired=True)
    for name in ("bare", "scaled", "formless", "heart"):
        image = load({"image": str(tmp_path / f"{name}.nii.gz")})["image"]
        assert image.meta["acquired"]  # so that pictures of it are not turned as those in RAS
        np.testing.assert_array_equal(image[0].numpy(), picture)
        back = on_source_grid(image[0].numpy(), image.meta)
        np.testing.assert_array_equal(back, np.asarray(nibabel.load(tmp_path / f"{name}.nii.gz").dataobj))
    across = LoadScand()({"image": str(tmp_path / "heart.nii.gz")})["image"]
    assert across.shape != image.shape  # the planes of the body cut through those that were acquired


def test_a_prone_series_is_turned_although_its_affine_only_scales(tmp_path):
    """What DICOM says of the orientation is meant: in RAS such an affine is a diagonal of positive numbers."""
    supine, prone = make_volume((9, 8, 3)), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    make_series(tmp_path / "supine", supine)
    make_series(tmp_path / "prone", supine[::-1, ::-1], orientation=prone)
    images = [LoadScand(acquired=True)(list_volumes(tmp_path / name)[0])["image"] for name in ("supine", "prone")]
    assert (np.diag(images[1].meta["source_affine"])[:2] > 0).all()
    np.testing.assert_array_equal(*(image.numpy() for image in images))


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 1)])
def test_a_mask_lies_where_its_file_does_for_every_reader(tmp_path, codes):
    """nibabel takes the sform, else the qform, else invents one; ITK and others have rules of their own."""
    affine = np.array([[-1.5, 0, 0, 10], [0, 1.5, 0, 20], [0, 0, 8, 30], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(np.zeros((5, 6, 4), np.float32), None)
    image.header.set_zooms((1.5, 1.5, 8))
    for code, place in zip(codes, (image.header.set_qform, image.header.set_sform), strict=True):
        place(affine if code else None, code)
    nibabel.save(image, tmp_path / "x.nii.gz")
    loaded = LoadScand()({"image": str(tmp_path / "x.nii.gz")})["image"]
    mask = on_source_grid(loaded[0].numpy(), loaded.meta)
    for file in write_volume_maps(tmp_path / "y", mask, mask, loaded.meta):
        source, written = (SimpleITK.ReadImage(str(name)) for name in (tmp_path / "x.nii.gz", file))
        for part in ("GetOrigin", "GetDirection", "GetSpacing"):
            assert getattr(written, part)() == pytest.approx(getattr(source, part)(), abs=1e-5)
        headers = [nibabel.load(name).header for name in (tmp_path / "x.nii.gz", file)]
        assert [(int(h["qform_code"]), int(h["sform_code"])) for h in headers] == [codes, codes]
        np.testing.assert_allclose(nibabel.load(file).affine, nibabel.load(tmp_path / "x.nii.gz").affine, atol=1e-5)


@pytest.mark.parametrize("mark", ["-", ".", " "])
def test_sequences_are_found_however_they_are_joined(volume: np.ndarray, tmp_path: Path, mark: str) -> None:
    for name in ("t1n", "t2w"):
        write(tmp_path / f"p-1{mark}{name}.nii.gz", volume)
    (item,) = list_volumes(tmp_path, ["t2w", "t1n"])
    assert item["id"] == "p-1"
    assert [Path(file).name for file in item["image"]] == [f"p-1{mark}t2w.nii.gz", f"p-1{mark}t1n.nii.gz"]
    write(tmp_path / "p-1_t1n.nii.gz", volume)
    with pytest.raises(ValueError, match=r"1 file\(s\) missing: .*p-1_t2w.nii.gz"):
        list_volumes(tmp_path, ["t2w", "t1n"])
