"""Single slices and whole volumes of a prepared set, and masks on their way back to the source."""

import json

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import AsDiscreted
from nibabel.orientations import apply_orientation

from hidiff_monai.data import (
    ClassesToChannelsd,
    LoadSliced,
    LoadVolumed,
    check_dataset,
    load_slices,
    load_volumes,
    read_geometry,
)
from hidiff_monai.data.prepare import prepare_dataset
from hidiff_monai.io import restore_to_source
from hidiff_monai.io.geometry import cut_axes, ras_affine, spacing_mm

CODES = ["RAS", "LPS", "PIR", "ASL", "SRP", "IAR"]


def _affine_of(codes, spacing=(0.5, 2.0, 3.0)):
    axes = nibabel.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(axes):
        affine[int(world), axis] = sign * spacing[axis]
    affine[:3, 3] = [10, -20, 30]
    return affine


@pytest.fixture
def prepared(tmp_path):
    """Two small training scans of Synapse; their lowest two slices are empty."""
    generator = np.random.default_rng(0)
    for number in ("0005", "0006"):
        image = generator.integers(-1000, 1000, (7, 6, 10), dtype=np.int16)
        label = generator.choice(np.array([0, 1, 6, 8], np.uint8), image.shape)
        label[..., :6] = 0
        for kind, array in (("img", image), ("label", label)):
            (tmp_path / "raw" / kind).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "raw" / kind / f"{kind}{number}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, _affine_of("LPS")), file)
    return prepare_dataset("synapse", tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("codes", CODES)
def test_masks_return_to_the_source_whatever_its_axes(codes):
    affine = _affine_of(codes)
    source = np.random.default_rng(0).integers(0, 9, (5, 6, 7), dtype=np.uint8)
    geometry = {"affine": affine.tolist(), "shape": list(source.shape), "slices": [0, 0]}
    moved = apply_orientation(source, cut_axes(affine))
    geometry["slices"] = [0, moved.shape[2]]
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(source, affine))
    np.testing.assert_array_equal(moved, np.asarray(canonical.dataobj))
    np.testing.assert_allclose(ras_affine(geometry), canonical.affine)
    np.testing.assert_allclose(spacing_mm(geometry), canonical.header.get_zooms())
    mask, back = restore_to_source(moved, geometry)
    np.testing.assert_array_equal(mask, source)
    np.testing.assert_array_equal(back, affine)
    assert mask.dtype == np.uint8

    geometry["slices"] = [1, 3]
    mask, _ = restore_to_source(moved[..., 1:3], geometry)
    kept = apply_orientation(mask, cut_axes(affine))
    np.testing.assert_array_equal(kept[..., 1:3], moved[..., 1:3])
    assert not kept[..., 0].any() and not kept[..., 3:].any()
    np.testing.assert_allclose(ras_affine(geometry) @ [0, 0, 0, 1], canonical.affine @ [0, 0, 1, 1])


def test_a_mask_of_another_shape_is_refused():
    geometry = {"affine": np.eye(4).tolist(), "shape": [5, 6, 7], "slices": [0, 7]}
    with pytest.raises(ValueError, match=r"shape \(1, 5, 6, 7\); expected \(5, 6, 7\)"):
        restore_to_source(np.zeros((1, 5, 6, 7), np.uint8), geometry)


def test_slices_are_the_planes_of_the_volume(prepared):
    dataset_dir, datalist = prepared
    volumes = {case["id"]: LoadVolumed()(case) for case in load_volumes(datalist, dataset_dir, "training")}
    items = load_slices(datalist, dataset_dir, "training")
    assert [(item["id"], item["slice"]) for item in items] == [(i, k) for i in ("0005", "0006") for k in range(10)]
    for item in items:
        loaded, volume = LoadSliced()(item), volumes[item["id"]]
        assert (loaded["image"].dtype, loaded["label"].dtype) == (torch.float32, torch.uint8)
        assert loaded["image"].shape == loaded["label"].shape == (1, 7, 6)
        for key in ("image", "label"):
            assert torch.equal(loaded[key], volume[key][..., item["slice"]].as_tensor())
        assert isinstance(item["image"], str)


def test_a_slice_is_read_without_the_rest(prepared, monkeypatch):
    dataset_dir, datalist = prepared
    modes = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda file, mmap_mode=None: (modes.append(mmap_mode), load(file, mmap_mode))[1])
    item = LoadSliced()(load_slices(datalist, dataset_dir, "training")[3])
    assert modes == ["r", "r"]
    item["image"] += 1  # a copy: the file may not be written to


def test_volumes_know_affine_and_spacing(prepared):
    dataset_dir, datalist = prepared
    case = load_volumes(datalist, dataset_dir, "training")[0]
    image = LoadVolumed()(case)["image"]
    assert image.shape == (1, 7, 6, 10)
    np.testing.assert_allclose(image.affine, ras_affine(read_geometry(case)))
    np.testing.assert_allclose(image.pixdim, case["spacing"])
    assert case["spacing"] == pytest.approx([0.5, 2.0, 3.0])


def test_images_without_labels_load_too(prepared):
    dataset_dir, datalist = prepared
    item = load_slices(datalist, dataset_dir, "training")[0]
    del item["label"]
    assert LoadSliced(allow_missing_keys=True)(item)["image"].shape == (1, 7, 6)
    with pytest.raises(KeyError):
        LoadSliced()(item)


@pytest.mark.parametrize(("share", "kept"), [(0, 0), (0.25, 3), (0.5, 6), (0.99, 11), (1, 12)])
def test_a_share_of_the_empty_slices(prepared, share, kept):
    dataset_dir, datalist = prepared
    items = load_slices(datalist, dataset_dir, "training", empty_share=share)
    filled = [LoadSliced()(item)["label"].any().item() for item in items]
    assert (sum(filled), len(filled) - sum(filled)) == (8, kept)


def test_what_cannot_be_loaded_is_named(prepared, tmp_path):
    dataset_dir, datalist = prepared
    with pytest.raises(ValueError, match="empty_share 2; expected a share"):
        load_slices(datalist, dataset_dir, "training", empty_share=2)
    content = json.loads(datalist.read_text())
    content["validation"] = [dict(content["training"][0], id="new")]
    (tmp_path / "leak.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"share 1 patient\(s\)"):
        load_slices(tmp_path / "leak.json", dataset_dir, "training")
    content["validation"] = []
    del content["training"][1]["slices"]
    (tmp_path / "flat.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="case 0006 has no 'slices'"):
        load_slices(tmp_path / "flat.json", dataset_dir, "training")
    (dataset_dir / "cases/0005.json").unlink()
    with pytest.raises(ValueError, match="0005.json: not readable"):
        load_slices(datalist, dataset_dir, "training", empty_share=0)


def test_a_prepared_set_is_checked_like_any_other(prepared):
    dataset_dir, datalist = prepared
    assert check_dataset(datalist, dataset_dir, progress=False) == []
    folder = dataset_dir / "cases"
    label = np.load(folder / "0005_label.npy")
    np.save(folder / "0005_label.npy", label + 3)
    np.save(folder / "0006_label.npy", label[1:])
    np.save(folder / "0006_image.npy", np.zeros((10, 2, 7, 6), np.int16))
    found = [problem.found for problem in check_dataset(datalist, dataset_dir, progress=False)]
    assert found == ["grey values {10}", "2 channel(s)", "grid (9, 7, 6)"]
    (folder / "0006_image.npy").write_bytes(b"cut")
    assert any(p.found.startswith("not readable") for p in check_dataset(datalist, dataset_dir, progress=False))


def test_classes_become_channels():
    label = torch.tensor([[[0, 1], [2, 3]]], dtype=torch.uint8)
    exclusive = ClassesToChannelsd("label", 3, exclusive=True)({"label": label})["label"]
    assert torch.equal(exclusive, AsDiscreted("label", to_onehot=4)({"label": label})["label"])
    overlapping = ClassesToChannelsd("label", 3, exclusive=False)({"label": label})["label"]
    assert overlapping.dtype == torch.float32
    assert overlapping.tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]]
