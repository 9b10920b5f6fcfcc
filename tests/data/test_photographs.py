"""A surround that is exactly black gets the grey value of the training images' surround."""

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
