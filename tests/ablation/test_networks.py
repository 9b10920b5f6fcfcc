"""A refiner without its X-Former, and the segmentor that all variants start from."""

from pathlib import Path

import pytest
import torch

from hidiff_monai.ablation import RefinerWithoutXFormer, with_segmentor
from hidiff_monai.inferers import accelerate
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

CHANNELS = [8, 8, 8, 8, 16, 16]


def build(refiner_class: type[DiffusionRefiner] = DiffusionRefiner, width: int = 8, binarized: bool = True) -> HiDiff:
    segmentor = UNetSegmentor(1, 1, [width, *CHANNELS[1:]])
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


def test_segmentor_is_taken_up_alone(tmp_path: Path) -> None:
    trained = build()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(1)
    network = build(RefinerWithoutXFormer)
    refiner = {name: value.clone() for name, value in network.refiner.state_dict().items()}
    assert with_segmentor(network, tmp_path / "model.pt") is network
    for name, value in network.segmentor.state_dict().items():
        assert torch.equal(value, trained.segmentor.state_dict()[name])
    for name, value in network.refiner.state_dict().items():
        assert torch.equal(value, refiner[name])
    with pytest.raises(ValueError, match=r"model.pt: belongs to another architecture"):
        with_segmentor(build(width=16), tmp_path / "model.pt")
