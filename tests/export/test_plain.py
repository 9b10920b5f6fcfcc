"""The plain copy: the network's numbers, and nothing binarized left to be done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hidiff_monai.export.plain import plain_copy
from hidiff_monai.networks import BinaryConv2d, BinaryLinear, HiDiff
from hidiff_monai.networks.time_modules import TimeBinarization


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
