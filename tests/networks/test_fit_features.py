"""A segmentor's maps at the refiner's size, whichever of the two pads to more."""

import pytest
import torch
from torch.nn import functional as F

from hidiff_monai.networks.padding import fit_features

STRIDES = [4, 8, 16, 32]


def make_maps(image: torch.Tensor, multiple: int) -> list[torch.Tensor]:
    """Those of an image padded below and on the right; the position is in the values."""
    height, width = image.shape[2:]
    padded = F.pad(image, [0, -width % multiple, 0, -height % multiple], mode="replicate")
    return [padded[:, :, ::stride, ::stride] for stride in STRIDES]


@pytest.mark.parametrize("size", [(48, 80), (96, 112), (144, 64), (64, 64), (31, 33)])
@pytest.mark.parametrize("multiple", [32, 64, 128, 224, 256])
def test_maps_of_a_larger_padding_are_cropped(size: tuple[int, int], multiple: int) -> None:
    image = torch.rand(1, 1, *size)
    fitted = fit_features(make_maps(image, multiple), STRIDES, [0, 1, 2], *size, divisor=16)
    for feature, expected in zip(fitted, make_maps(image, 16), strict=False):
        assert torch.equal(feature, expected)


def test_maps_need_not_be_of_one_padding() -> None:
    """A segmentor that pads to 128 inside and crops its finest map to the image."""
    maps = make_maps(torch.rand(1, 1, 33, 70), 128)
    maps[0] = maps[0][:, :, :8, :17]
    fitted = fit_features(maps, STRIDES, [0, 1], 33, 70, divisor=16)
    assert [tuple(feature.shape[2:]) for feature in fitted] == [(12, 20), (6, 10)]


def test_a_coarsest_map_of_another_stride_is_refused() -> None:
    maps = make_maps(torch.rand(1, 1, 256, 256), 32)
    maps[3] = maps[2]
    with pytest.raises(ValueError, match="a feature map of stride 32 has 16 rows for an image of 256"):
        fit_features(maps, STRIDES, [0, 1, 2, 3], 256, 256, divisor=32)


def test_a_map_of_another_stride_is_refused() -> None:
    maps = make_maps(torch.rand(1, 1, 256, 256), 32)
    maps[1] = maps[0]
    with pytest.raises(ValueError, match="a feature map of stride 8 has 64 rows for an image of 256"):
        fit_features(maps, STRIDES, [0, 1, 2], 256, 256, divisor=16)
