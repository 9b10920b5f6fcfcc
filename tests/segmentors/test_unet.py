"""The U-Net segmentor: any image size and channel count, and features where it says they are."""

import pytest
import torch
from torch.nn import functional as F

from hidiff_monai.segmentors import SegmentorOutput, UNetSegmentor

CHANNELS = (2, 2, 4, 4, 6, 8)


def unet(in_channels: int = 3, num_targets: int = 1) -> UNetSegmentor:
    return UNetSegmentor(in_channels, num_targets, CHANNELS).eval()


@pytest.mark.parametrize("in_channels", [1, 3, 4])
@pytest.mark.parametrize("num_targets", [1, 9])
@torch.no_grad()
def test_logits_have_the_size_of_the_image(in_channels: int, num_targets: int) -> None:
    output = unet(in_channels, num_targets)(torch.rand(2, in_channels, 45, 70))
    assert isinstance(output, SegmentorOutput)
    assert output.logits.shape == (2, num_targets, 45, 70)


@torch.no_grad()
def test_features_lie_at_the_announced_strides_finest_first() -> None:
    segmentor = unet()
    assert segmentor.feature_strides == [4, 8, 16, 32]
    features = segmentor(torch.rand(1, 3, 64, 96)).features
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(segmentor.feature_channels, [4, 8, 16, 32], strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected


@torch.no_grad()
def test_odd_sizes_equal_the_padded_image() -> None:
    segmentor, image = unet(), torch.rand(1, 3, 50, 33)
    padded = F.pad(image, (0, 31, 0, 14), mode="replicate")
    output, reference = segmentor(image), segmentor(padded)
    assert torch.equal(output.logits, reference.logits[:, :, :50, :33])
    for feature, other in zip(output.features, reference.features, strict=True):
        assert torch.equal(feature, other)


@torch.no_grad()
def test_one_image_does_not_depend_on_its_batch() -> None:
    segmentor, images = unet(), torch.rand(3, 3, 32, 64)
    batch = segmentor(images).logits
    for i in range(3):
        torch.testing.assert_close(segmentor(images[i : i + 1]).logits[0], batch[i])


def test_gradients_reach_every_parameter_through_logits_and_features() -> None:
    segmentor = UNetSegmentor(3, 1, CHANNELS)
    output = segmentor(torch.rand(2, 3, 64, 64))
    (output.logits.square().mean() + sum(feature.square().mean() for feature in output.features)).backward()
    dead = [name for name, parameter in segmentor.named_parameters() if parameter.grad is None]
    assert not dead


@torch.no_grad()
def test_scripted_equals_eager() -> None:
    segmentor = unet()
    scripted = torch.jit.script(segmentor)
    for shape in [(1, 3, 64, 64), (2, 3, 33, 90)]:
        image = torch.rand(shape)
        logits, features = scripted(image)
        torch.testing.assert_close(logits, segmentor(image).logits)
        assert len(features) == 4


def test_too_few_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least three levels"):
        UNetSegmentor(3, 1, (4, 8))
