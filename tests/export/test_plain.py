"""The plain copy: the network's numbers, and nothing binarized left to be done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hidiff_monai.export.formats import METADATA, capture, write_torchscript
from hidiff_monai.export.inputs import Trial, fit, stride_of
from hidiff_monai.export.plain import plain_copy
from hidiff_monai.networks import BinaryConv2d, BinaryLinear, DiffusionRefiner, HiDiff
from hidiff_monai.networks.time_modules import TimeBinarization
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import SegmentorAdapter, UNetSegmentor


@torch.no_grad()
def test_a_program_takes_every_size_that_a_coarser_segmentor_takes() -> None:
    segmentor = UNetSegmentor(1, 1, (4, 4, 4, 4), finest_feature_stride=2, downscale_factor=2)
    refiner = DiffusionRefiner(
        1, 1, segmentor.feature_channels, segmentor.feature_strides, (4, 4, 8), embedding_dim=8, num_heads=2
    )
    torch.nn.init.normal_(refiner.correction.weight)
    network = HiDiff(segmentor, refiner, BernoulliScheduler()).eval()
    assert (refiner.divisor, stride_of(network)) == (4, 16)
    program = capture(network).module()
    for size in ((1, 1, 32, 48), (2, 1, 48, 32), (1, 1, 64, 64)):
        image = torch.rand(size)
        torch.testing.assert_close(program(image), network(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_small_batches_are_padded_to_the_smallest_that_a_program_takes() -> None:
    batches = [torch.rand(1, 1, 4, 4), torch.rand(1, 1, 3, 9), torch.rand(2, 1, 8, 12)]
    fitted = fit(Trial("made up", batches), 4).batches
    assert [tuple(batch.shape[2:]) for batch in fitted] == [(8, 8), (8, 12), (8, 12)]
    assert torch.equal(fitted[1][:, :, :3, :9], batches[1]) and fitted[2] is batches[2]


def test_writing_torchscript_leaves_an_adapter_as_it_was(tmp_path: Path) -> None:
    """Its network is traced, and the tracing must not pass for the network that the file is compared with."""
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 4, 1), torch.nn.Conv2d(4, 1, 1))
    adapter = SegmentorAdapter(layers, ["0"])
    refiner = DiffusionRefiner(3, 1, adapter.feature_channels, adapter.feature_strides, (4, 4, 8), 8, 2)
    network = HiDiff(adapter, refiner, BernoulliScheduler()).eval()
    write_torchscript(network, tmp_path / "model.ts", {METADATA: {}})
    assert not any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())


@pytest.mark.parametrize("binarized", [True, False])
@torch.no_grad()
def test_the_copy_gives_what_the_network_gives(make_network: Callable[..., HiDiff], binarized: bool) -> None:
    network = make_network(num_targets=2, binarized=binarized).eval()
    plain, before = plain_copy(network), {name: value.clone() for name, value in network.state_dict().items()}
    image = torch.rand(2, 1, 24, 33)
    torch.testing.assert_close(plain(image), network(image), rtol=0, atol=1e-6)
    assert not any(isinstance(module, (BinaryConv2d, BinaryLinear, TimeBinarization)) for module in plain.modules())
    assert not any(parameter.requires_grad for parameter in plain.parameters())
    for parameter in plain.parameters():
        parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
