"""A surround that is exactly black gets the grey value of the training images' surround."""

import pytest
import torch

from hidiff_monai.data import LiftBlackd


def test_frequent_zeros_are_raised_channel_by_channel_and_rare_ones_stay() -> None:
    image = torch.full((3, 10, 10), 100.0)
    image[0, :4] = 0.0
    image[1, 0, :5] = 0.0
    item = {"image": image.clone(), "label": torch.zeros(1, 10, 10)}
    lifted = LiftBlackd("image", level=8)(item)
    assert (lifted["image"][0, :4] == 8).all() and (lifted["image"][0, 4:] == 100).all()
    assert torch.equal(lifted["image"][1:], image[1:])
    assert not lifted["label"].any()
    assert torch.equal(item["image"], image), "the picture that was handed in has changed"


def test_a_picture_of_fewer_bits_than_its_file_has_gets_as_much_less() -> None:
    image = torch.full((3, 10, 10), 100.0)
    image[:, :4] = 0.0
    lifted = [LiftBlackd("image", level=8)({"image": picture})["image"] for picture in (image, image / 16)]
    assert lifted[1][0, 0, 0] == pytest.approx(8 * 100 / 16 / 255)
    assert lifted[0][0, 0, 0] == 8 and (lifted[1][:, 4:] == 100 / 16).all()
