"""Volumes: every slice as the 2-D inferer reads it, kept as classes."""

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from hidiff_monai.inferers import BernoulliDiffusionInferer, VolumeInferer
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

OUTPUTS = ("refined", "prior", "entropy")


@pytest.fixture(scope="module", params=[1, 3])
def network(request: pytest.FixtureRequest) -> HiDiff:
    torch.manual_seed(0)
    segmentor = UNetSegmentor(1, request.param, (2, 2, 4, 4, 4, 4))
    refiner = DiffusionRefiner(
        1, request.param, segmentor.feature_channels, channels=(4,) * 6, embedding_dim=8, num_heads=2
    )
    nn.init.normal_(refiner.correction.weight)
    nn.init.normal_(segmentor.head.weight)
    return HiDiff(segmentor, refiner, BernoulliScheduler(10), exclusive=request.param > 1, num_inference_steps=2).eval()


def test_every_slice_is_read_as_by_the_2d_inferer(network: HiDiff) -> None:
    volume = torch.rand(1, 1, 32, 40, 5)
    inferer = BernoulliDiffusionInferer(outputs=OUTPUTS)
    results = VolumeInferer(inferer, batch_size=2, progress=False)(MetaTensor(volume), network)
    assert {name: value.dtype for name, value in results.items()} == {
        "refined": torch.uint8,
        "prior": torch.uint8,
        "entropy": torch.float16,
    }
    for k in range(5):
        maps: Any = inferer(volume[..., k], network)
        for name in ("refined", "prior"):
            several = maps[name].shape[1] > 1
            expected = maps[name].argmax(1) if several else (maps[name][:, 0] > 0.5)
            assert torch.equal(results[name][:, 0, ..., k], expected.to(torch.uint8))
        torch.testing.assert_close(
            results["entropy"][:, 0, ..., k].float(), maps["entropy"].mean(1), atol=1e-3, rtol=1e-3
        )


def test_slices_are_shown_before_their_probabilities_are_dropped(network: HiDiff) -> None:
    volumes, seen = torch.rand(2, 1, 32, 32, 5), []
    infer = VolumeInferer(BernoulliDiffusionInferer(outputs=OUTPUTS), batch_size=2, progress=False)
    infer.on_slices = lambda case, place, maps: seen.append((case, place, maps["refined"].clone()))
    results = infer(volumes, network)
    assert [(case, place.start, place.stop) for case, place, _ in seen] == [
        (case, start, stop) for case in (0, 1) for start, stop in ((0, 2), (2, 4), (4, 5))
    ]
    for case, place, refined in seen:
        several = refined.shape[1] > 1
        classes = refined.argmax(1) if several else (refined[:, 0] > 0.5)
        assert torch.equal(classes.to(torch.uint8).movedim(0, -1), results["refined"][case, 0, ..., place])


def test_no_temperature_moves_a_class(network: HiDiff) -> None:
    volume = torch.rand(1, 1, 32, 32, 2)
    plain, flat = (
        VolumeInferer(BernoulliDiffusionInferer(outputs=OUTPUTS, temperature=t), progress=False)(volume, network)
        for t in (1.0, 3.0)
    )
    assert torch.equal(plain["refined"], flat["refined"]) and torch.equal(plain["prior"], flat["prior"])
    assert flat["entropy"].float().mean() > plain["entropy"].float().mean()


def test_an_inferer_without_the_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"outputs \['refined'\] lack \['entropy', 'prior'\]: add them"):
        VolumeInferer(BernoulliDiffusionInferer())


def test_classes_that_overlap_are_refused(network: HiDiff) -> None:
    if not network.exclusive:
        pytest.skip("one class")
    other = HiDiff(network.segmentor, network.refiner, network.scheduler, exclusive=False)
    infer = VolumeInferer(BernoulliDiffusionInferer(outputs=OUTPUTS), progress=False)
    with pytest.raises(ValueError, match="3 classes overlap"):
        infer(torch.rand(1, 1, 32, 32, 2), other.eval())
