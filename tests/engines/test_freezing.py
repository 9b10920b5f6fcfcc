"""Frozen means bit-identical, buffers included, and transparent to the gradient."""

import torch
from torch import nn

from hidiff_monai.engines.freezing import frozen


def build() -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 1, 1))
    network[3].bias.requires_grad_(False)
    network[2].eval()
    return network


def test_no_parameter_no_buffer_and_no_gradient_changes() -> None:
    network = build()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    image = torch.rand(2, 1, 8, 8, requires_grad=True)
    with frozen(network):
        network(image).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert int(network[1].num_batches_tracked) == 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradient_reaches_the_input_as_through_the_network_in_eval_mode() -> None:
    network = build()
    image = torch.rand(2, 1, 8, 8, requires_grad=True)
    with frozen(network):
        frozen_output = network(image).square().sum()
    (gradient,) = torch.autograd.grad(frozen_output, image)
    (expected,) = torch.autograd.grad(network.eval()(image).square().sum(), image)
    assert torch.equal(gradient, expected)
    assert gradient.abs().sum() > 0


def test_backward_after_the_block_still_stores_nothing() -> None:
    network = build()
    image = torch.rand(2, 1, 8, 8, requires_grad=True)
    with frozen(network):
        output = network(image).sum()
    output.backward()
    assert image.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_modes_and_requires_grad_come_back_as_they_were_even_after_an_error() -> None:
    network = build()
    modes = [module.training for module in network.modules()]
    trainable = [parameter.requires_grad for parameter in network.parameters()]
    try:
        with frozen(network):
            assert not any(module.training for module in network.modules())
            assert not any(parameter.requires_grad for parameter in network.parameters())
            raise RuntimeError("inside")
    except RuntimeError:
        pass
    assert [module.training for module in network.modules()] == modes == [True, True, True, False, True]
    assert [parameter.requires_grad for parameter in network.parameters()] == trainable
