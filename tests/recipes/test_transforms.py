"""What the recipes' readers make of files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import ExifTags, Image

from hidiff_monai.recipes import augment_2d, photograph_transforms


@pytest.mark.parametrize(("suffix", "grey"), [("png", 65535), ("tif", 65535), ("png", 300), ("png", 255), ("tif", 1)])
def test_a_mask_of_16_bits_has_the_classes_of_its_own_values(tmp_path: Path, suffix: str, grey: int) -> None:
    mask = np.zeros((40, 50), np.uint16)
    mask[5:20, 10:30] = grey
    Image.fromarray(mask).save(tmp_path / f"mask.{suffix}")
    Image.fromarray(np.full((40, 50, 3), 99, np.uint8)).save(tmp_path / "image.png")
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"label_values": {"0": 0, str(grey): 1}, "training": []}))
    item = {"image": str(tmp_path / "image.png"), "label": str(tmp_path / f"mask.{suffix}")}
    label = Compose(photograph_transforms(datalist))(item)["label"]
    assert label.dtype == torch.float32 and label.shape == (1, 40, 50)
    np.testing.assert_array_equal(label[0].numpy(), mask > 0)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_a_turned_mask_lies_on_its_image(tmp_path: Path, suffix: str) -> None:
    """As a camera stores both; Pillow maps an uncompressed TIFF that is opened by its path wrongly."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    mask = np.zeros((40, 50), np.uint8)
    mask[5:20, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / f"mask.{suffix}", exif=exif)
    Image.fromarray(np.repeat(mask[..., None], 3, axis=-1)).save(tmp_path / "image.png", exif=exif)
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"label_values": {"0": 0, "255": 1}, "training": []}))
    item = {"image": str(tmp_path / "image.png"), "label": str(tmp_path / f"mask.{suffix}")}
    loaded = Compose(photograph_transforms(datalist))(item)
    assert loaded["label"].shape == (1, 50, 40)
    np.testing.assert_array_equal(loaded["label"][0].numpy() > 0, loaded["picture"][0].numpy() > 0)


@pytest.mark.parametrize("resize", [True, False])
def test_an_augmented_batch_has_one_size_square_or_not(resize: bool) -> None:
    item = {"image": torch.rand(3, 60, 90), "label": torch.ones(1, 60, 90)}
    for size in ((64, 96), (64, 64)):
        transform = Compose(augment_2d(size, resize=resize)).set_random_state(0)
        outputs = [transform(dict(item)) for _ in range(20)]
        shapes = {tuple(part["image"].shape) for output in outputs for part in (output if not resize else [output])}
        assert shapes == {(3, *size)}


def test_scaling_changes_both_axes() -> None:
    ramps = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))
    transform = Compose(
        augment_2d((64, 64), rotation=0.0, scaling=0.3, intensity=0.0, flips=False, affine_prob=1.0)
    ).set_random_state(0)
    crops = [transform({"image": ramps, "label": torch.ones(1, 64, 64)})[0]["image"] for _ in range(40)]
    steps = torch.stack(
        [torch.stack([crop[0, 33, 32] - crop[0, 32, 32], crop[1, 32, 33] - crop[1, 32, 32]]) for crop in crops]
    )
    assert (steps.amin(dim=0) < 0.8).all() and (steps.amax(dim=0) > 1.2).all()
    assert steps.min() > 0.69 and steps.max() < 1.31
