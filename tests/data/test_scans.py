"""NIfTI files to predict: found, read in RAS, refused in words, and their masks back on the source grid."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity

from hidiff_monai.data import LoadScand, NormalizeByVolumed, list_volumes
from hidiff_monai.io import SaveVolumePrediction

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
    shifted = write(tmp_path / "shifted.nii.gz", volume, np.diag([1.0, 1, 1, 1]))
    for files, words in (
        (str(cut), "cut.nii.gz: not readable"),
        (str(flat), "flat.nii.gz: shape .* expected one volume"),
        (str(nan), "nan.nii.gz: holds NaN"),
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
