"""TB and TA by hand: Eqs. 15 and 16, and that t steers them."""

import pytest
import torch
from torch import nn

from hidiff_monai.networks.time_modules import TimeActivation, TimeBinarization, TimeEmbedding


def perturbed(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return module


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 7, 3)], ids=["maps", "tokens"])
def test_binarization_is_eq_15(shape: tuple[int, ...]) -> None:
    module, embedding, x = perturbed(TimeBinarization(3, 6)).eval(), torch.randn(2, 6), torch.randn(shape)
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2.0)
    sigma = (module.norm.running_var + module.norm.eps).sqrt()
    alpha = embedding @ module.threshold.weight.T + module.threshold.bias  # (B, C)
    alpha = module.norm.running_mean + sigma * alpha  # the normalization folded into the threshold
    alpha = alpha[:, :, None, None] if len(shape) == 4 else alpha[:, None, :]
    assert torch.equal(module(x, embedding), torch.where(x > alpha, 1.0, -1.0))


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 7, 3)], ids=["maps", "tokens"])
def test_activation_is_eq_16(shape: tuple[int, ...]) -> None:
    module, embedding, x = perturbed(TimeActivation(3, 6)), torch.randn(2, 6), torch.randn(shape)
    shifts = embedding @ module.shifts.weight.T + module.shifts.bias
    beta = module.slope
    if len(shape) == 4:
        gamma, zeta, beta = shifts[:, :3, None, None], shifts[:, 3:, None, None], beta[:, None, None]
    else:
        gamma, zeta = shifts[:, None, :3], shifts[:, None, 3:]
    expected = torch.where(x > gamma, x - gamma + zeta, beta * (x - gamma) + zeta)
    torch.testing.assert_close(module(x, embedding), expected)


def test_activation_starts_as_a_leaky_relu() -> None:
    x = torch.randn(2, 3, 4, 4)
    expected = nn.functional.leaky_relu(x, 0.25)
    torch.testing.assert_close(TimeActivation(3, 6)(x, torch.randn(2, 6)), expected)


def test_embedding_tells_all_timesteps_apart() -> None:
    embedding = TimeEmbedding(32)(torch.arange(10))
    distances = torch.cdist(embedding, embedding) + torch.eye(10)
    assert embedding.shape == (10, 32) and distances.min() > 1e-3


def test_thresholds_and_shifts_depend_on_t_once_trained() -> None:
    embed, threshold, activate = TimeEmbedding(8), TimeBinarization(3, 8), TimeActivation(3, 8)
    embedding = embed(torch.arange(10))
    assert (threshold.threshold(embedding) == 0).all() and (activate.shifts(embedding) == 0).all()
    for values in (perturbed(threshold).threshold(embedding), perturbed(activate).shifts(embedding)):
        assert (values.std(dim=0) > 1e-3).all()
