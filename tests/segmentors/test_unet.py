"""The U-Net segmentor: any image size and channel count, and features where it says they are."""

import pytest
import torch
from torch.nn import functional as F

from hidiff_monai.segmentors import SegmentorOutput, UNetSegmentor

CHANNELS = (2, 2, 4, 4, 6, 8)


def unet(in_channels: int = 3, num_targets: int = 1, downscale_factor: int = 1) -> UNetSegmentor:
    return UNetSegmentor(in_channels, num_targets, CHANNELS, downscale_factor=downscale_factor).eval()


@pytest.mark.parametrize("in_channels", [1, 3, 4])
@pytest.mark.parametrize("num_targets", [1, 9])
@pytest.mark.parametrize("downscale_factor", [1, 2])
@torch.no_grad()
def test_logits_have_the_size_of_the_image(in_channels: int, num_targets: int, downscale_factor: int) -> None:
    output = unet(in_channels, num_targets, downscale_factor)(torch.rand(2, in_channels, 45, 70))
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
def test_downscaled_features_begin_at_the_factor_and_logits_lie_on_their_pixels() -> None:
    segmentor = UNetSegmentor(1, 1, (4, 4, 4), finest_feature_stride=2, downscale_factor=2).eval()
    assert segmentor.feature_strides == [2, 4, 8]
    assert [tuple(feature.shape[2:]) for feature in segmentor(torch.rand(1, 1, 40, 64)).features] == [
        (20, 32),
        (10, 16),
        (5, 8),
    ]
    # A head that reads nothing and says 0, 1, 2, 3: the four pixels of every block, row by row.
    torch.nn.init.zeros_(segmentor.head.weight)
    segmentor.head.bias.copy_(torch.arange(4.0))
    logits = segmentor(torch.rand(1, 1, 7, 9)).logits[0, 0]
    assert torch.equal(logits[:2, :2], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert torch.equal(logits[-1], torch.tensor([0.0, 1.0]).repeat(5)[:9])


@pytest.mark.parametrize("factor", [0, 3])
def test_a_downscale_factor_that_is_no_power_of_2_is_refused(factor: int) -> None:
    with pytest.raises(ValueError, match=f"downscale_factor is {factor}; expected a power of 2"):
        unet(downscale_factor=factor)


def test_features_finer_than_the_downscaled_grid_are_refused() -> None:
    with pytest.raises(ValueError, match=r"finest_feature_stride is 1; expected one of \[2, 4, 8\]"):
        UNetSegmentor(3, 1, (4, 4, 4), finest_feature_stride=1, downscale_factor=2)


@pytest.mark.parametrize("downscale_factor", [1, 2])
@torch.no_grad()
def test_scripted_equals_eager(downscale_factor: int) -> None:
    segmentor = unet(downscale_factor=downscale_factor)
    scripted = torch.jit.script(segmentor)
    for shape in [(1, 3, 64, 64), (2, 3, 33, 90)]:
        image = torch.rand(shape)
        logits, features = scripted(image)
        torch.testing.assert_close(logits, segmentor(image).logits)
        assert len(features) == len(segmentor.feature_strides)


def test_too_few_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least three levels"):
        UNetSegmentor(3, 1, (4, 8))
