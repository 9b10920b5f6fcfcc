"""Oracle tests of the binarized layers: Eq. 15's sign, its pseudo-gradient, and XNOR-style scaled weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks import BinaryConv2d, BinaryLinear, sign_ste

GRID = torch.tensor(
    [-9.0, -1.5, -1.0001, -0.999, -0.75, -0.5, -0.1, -1e-6, 1e-6, 0.1, 0.5, 0.75, 0.999, 1.0001, 1.5, 9.0]
)
LAYERS = [
    pytest.param(lambda: BinaryConv2d(6, 5, 3, stride=2, padding=1), (2, 6, 9, 8), id="conv"),
    pytest.param(lambda: BinaryLinear(6, 5), (2, 4, 6), id="linear"),
]


def signs(shape, seed=0):
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def effective_weight(weight):
    """mean|W| per output channel * sign(W), sign(0) = +1."""
    scale = weight.abs().flatten(1).mean(1).reshape(-1, *[1] * (weight.ndim - 1))
    return scale * torch.where(weight >= 0, 1.0, -1.0)


def draw_weights(layer, low=-1.5, high=1.5):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.weight.uniform_(low, high, generator=generator)
    return layer


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_sign_is_never_zero(dtype):
    x = torch.tensor([-2.0, -1.0, -0.25, -0.0, 0.0, 1e-7, 0.3, 1.0, 700.0], dtype=dtype)
    expected = torch.tensor([-1, -1, -1, -1, -1, 1, 1, 1, 1], dtype=dtype)  # Eq. 15: +1 only above the threshold
    assert torch.equal(sign_ste(x), expected)
    assert torch.equal(torch.jit.script(sign_ste)(x), expected)


def test_sign_is_exact_on_random_values():
    x = torch.randn(100000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sign_ste(x), torch.where(x > 0, 1.0, -1.0))


@pytest.mark.parametrize("function", [sign_ste, torch.jit.script(sign_ste)], ids=["eager", "scripted"])
def test_pseudo_gradient_equals_the_formula(function):
    x = torch.cat([GRID, torch.linspace(-2, 2, 402)]).double().requires_grad_()
    upstream = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (function(x) * upstream).sum().backward()
    v = x.detach()
    slope = torch.where(v < 0, 2 + 2 * v, 2 - 2 * v) * (v.abs() <= 1)
    torch.testing.assert_close(x.grad, upstream * slope, rtol=0, atol=1e-12)


def test_pseudo_gradient_at_the_joints():
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    sign_ste(x).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 0.0]


@pytest.mark.parametrize(("stride", "padding", "kernel"), [(1, 0, 3), (1, 1, 3), (2, 1, 3), (1, 0, 1), (2, 2, 5)])
def test_convolution_equals_torch_with_scaled_signs(stride, padding, kernel):
    layer = draw_weights(BinaryConv2d(6, 5, kernel, stride=stride, padding=padding))
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 0.0  # sign(0) = +1 for weights
    x = signs((2, 6, 9, 8))
    expected = F.conv2d(x, effective_weight(layer.weight), stride=stride, padding=padding)
    torch.testing.assert_close(layer(x), expected)


def test_linear_equals_torch_with_scaled_signs():
    layer = draw_weights(BinaryLinear(6, 5))
    with torch.no_grad():
        layer.weight[2, 3] = 0.0
    x = signs((2, 4, 6))
    torch.testing.assert_close(layer(x), F.linear(x, effective_weight(layer.weight)))


def test_convolution_defaults_to_stride_1_without_padding():
    assert BinaryConv2d(6, 5, 3)(signs((1, 6, 9, 8))).shape == (1, 5, 7, 6)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_outputs_are_scaled_integers(make, shape):
    """Output / scale is a popcount, hence an integer (zero padding adds nothing)."""
    layer, x = draw_weights(make()), signs(shape)
    scale = layer.weight.abs().flatten(1).mean(1)
    out = layer(x) if isinstance(layer, BinaryLinear) else layer(x).movedim(1, -1)
    torch.testing.assert_close(out / scale, (out / scale).round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_gradient_reaches_exactly_the_weights_within_1(make, shape):
    layer = draw_weights(make())
    out = layer(signs(shape))
    (out * torch.rand(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    within = layer.weight.detach().abs() <= 1
    assert within.any() and not within.all()
    assert torch.isfinite(layer.weight.grad).all()
    assert (layer.weight.grad[within] != 0).all()
    assert (layer.weight.grad[~within] == 0).all()


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_gradient_of_the_input_uses_the_binary_weights(make, shape):
    layer, x = draw_weights(make()), signs(shape).requires_grad_()
    reference = x.detach().clone().requires_grad_()
    layer(x).sum().backward()
    weight = effective_weight(layer.weight.detach())
    (F.linear(reference, weight) if weight.ndim == 2 else F.conv2d(reference, weight, None, 2, 1)).sum().backward()
    torch.testing.assert_close(x.grad, reference.grad)


@pytest.mark.parametrize("make", [lambda: BinaryConv2d(64, 32, 3, padding=1), lambda: BinaryLinear(64, 32)])
def test_initial_weights_are_drawn_with_both_signs(make):
    torch.manual_seed(0)
    layer = make()
    assert [name for name, _ in layer.named_parameters()] == ["weight"] == list(layer.state_dict())
    weight = layer.weight.detach()
    assert torch.isfinite(weight).all() and weight.abs().max() <= 1 and weight.std() > 0
    assert 0.4 < (weight > 0).float().mean() < 0.6
    assert ((weight > 0).flatten(1).any(1) & (weight < 0).flatten(1).any(1)).all()
    torch.manual_seed(0)
    torch.full((100000,), 7.0)  # freed memory that an uninitialised weight would pick up
    assert torch.equal(make().weight, weight)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_scripted_and_traced_equal_eager(make, shape):
    layer, x, other = draw_weights(make()), signs(shape), signs((3, *shape[1:]), seed=5)
    assert isinstance(layer, nn.Module)
    scripted, traced = torch.jit.script(layer), torch.jit.trace(layer, x)
    for module in (scripted, traced):
        assert torch.equal(module(x), layer(x)) and torch.equal(module(other), layer(other))
    scripted(x).square().sum().backward()
    grad, layer.weight.grad = layer.weight.grad.clone(), None
    layer(x).square().sum().backward()
    torch.testing.assert_close(grad, layer.weight.grad)
