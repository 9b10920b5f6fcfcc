"""A refiner without its X-Former still hears its segmentor, and is never taken for the whole one."""

import pytest
import torch

from hidiff_monai.ablation import RefinerWithoutXFormer
from hidiff_monai.inferers import accelerate
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

CHANNELS = [8, 8, 8, 8, 16, 16]


def build(refiner_class: type[DiffusionRefiner] = DiffusionRefiner, binarized: bool = True) -> HiDiff:
    segmentor = UNetSegmentor(1, 1, CHANNELS)
    refiner = refiner_class(
        1, 1, segmentor.feature_channels, segmentor.feature_strides, channels=CHANNELS, binarized=binarized
    )
    return HiDiff(segmentor, refiner, BernoulliScheduler(10)).eval()


@pytest.mark.parametrize("binarized", [True, False])
def test_segmentor_still_reaches_the_bottleneck(binarized: bool) -> None:
    network = build(RefinerWithoutXFormer, binarized=binarized)
    assert not any("into_prior" in name for name, _ in network.named_parameters())
    torch.nn.init.normal_(network.refiner.correction.weight)
    image = torch.rand(1, 1, 32, 64)
    with torch.no_grad():
        _, prior, features = network.predict_prior(image)
        sample, t = network.start(prior, "hard"), torch.tensor([9])
        before = network.refiner(image, sample, prior, features, t)
        features[-1] = features[-1] + 5 * torch.randn_like(features[-1])
        after = network.refiner(image, sample, prior, features, t)
    assert before.shape == (1, 1, 32, 64)
    assert not torch.allclose(before, after)


def test_no_compiled_form_is_taken_for_it() -> None:
    network = build(RefinerWithoutXFormer)
    assert accelerate(network, torch.device("cpu")) == (network, "eager")
