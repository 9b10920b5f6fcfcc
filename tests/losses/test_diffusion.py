"""Oracle tests of the diffusion objective (Eqs. 11-13), computed a second time in NumPy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from hidiff_monai.losses import BernoulliDiffusionLoss, bernoulli_kl, focal_noise_loss
from hidiff_monai.schedulers import BernoulliScheduler

T = 10
TIMESTEPS = torch.tensor([0, 1, 4, 8, 9])
SHAPE = (5, 2, 6, 7)


def abar(t):
    """The cosine schedule at code index t (the paper's t + 1); 1 for y_0, t = -1."""
    offset = 0.008
    start = math.cos(offset / (1 + offset) * math.pi / 2) ** 2
    return math.cos(((t + 1) / T + offset) / (1 + offset) * math.pi / 2) ** 2 / start


def posterior(y_t, y_0, f, t):
    """Eq. 7 as a normalised product of the two channels, previous step t - 1, in NumPy."""
    if t == 0:
        return y_0
    a = abar(t) / abar(t - 1)
    mixed = (1 - a) * np.abs(1 - y_t - f)
    ones = (a * y_t + mixed) * (abar(t - 1) * y_0 + (1 - abar(t - 1)) * f)
    zeros = (a * (1 - y_t) + mixed) * (abar(t - 1) * (1 - y_0) + (1 - abar(t - 1)) * (1 - f))
    return ones / (ones + zeros)


def pairs(p):
    return np.stack([p, 1 - p])


def expected_kl(logits, y_t, y_0, f):
    noise_hat = 1 / (1 + np.exp(-logits))
    true = np.stack([posterior(y_t[b], y_0[b], f[b], t) for b, t in enumerate(TIMESTEPS.tolist())])
    estimate = np.stack(
        [posterior(y_t[b], np.abs(y_t[b] - noise_hat[b]), f[b], t) for b, t in enumerate(TIMESTEPS.tolist())]
    )
    return stats.entropy(pairs(true), pairs(estimate), axis=0).mean()


def expected_focal(logits, noise, gamma):
    p = 1 / (1 + np.exp(-logits))
    return -(noise * (1 - p) ** gamma * np.log(p) + (1 - noise) * p**gamma * np.log(1 - p)).mean()


@pytest.fixture
def batch():
    """noise_logits, y_t, y_0, f: float64, every state possible."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * 2
    uniform = [torch.rand(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3)]
    return logits, uniform[0].round(), uniform[1].round(), uniform[2] * 0.9 + 0.05


def make_loss(**options):
    return BernoulliDiffusionLoss(BernoulliScheduler(num_train_timesteps=T), **options)


def true_logits(y_t, y_0, size=30.0):
    return size * (2 * (y_t - y_0).abs() - 1)


def test_kl_equals_scipy():
    p, q = np.meshgrid(np.linspace(0, 1, 21), np.linspace(0.01, 0.99, 21))
    found = bernoulli_kl(torch.from_numpy(p), torch.from_numpy(q))
    np.testing.assert_allclose(found.numpy(), stats.entropy(pairs(p), pairs(q), axis=0), rtol=0, atol=1e-5)
    assert found.shape == p.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_of_equals_is_zero(dtype):
    p = torch.linspace(0, 1, 11, dtype=dtype)
    torch.testing.assert_close(bernoulli_kl(p, p), torch.zeros_like(p), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_and_gradients_are_finite_at_0_and_1(dtype):
    edge = torch.tensor([0.0, 1e-30, 1e-8, 0.5, 1 - 1e-7, 1.0], dtype=dtype)
    p, q = (x.clone().requires_grad_() for x in torch.meshgrid(edge, edge, indexing="ij"))
    kl = bernoulli_kl(p, q)
    kl.sum().backward()
    assert torch.isfinite(kl).all() and (kl >= -1e-6).all() and kl[0, 5] > 5 and kl[5, 0] > 5
    assert torch.isfinite(p.grad).all() and torch.isfinite(q.grad).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_focal_equals_the_closed_form(batch, gamma):
    logits, noise, _, _ = batch
    expected = expected_focal(logits.numpy(), noise.numpy(), gamma)
    assert focal_noise_loss(logits, noise, gamma).item() == pytest.approx(expected, abs=1e-9)


def test_focal_with_gamma_0_is_cross_entropy(batch):
    logits, noise, _, _ = batch
    logits = logits * 20  # far into saturation
    torch.testing.assert_close(focal_noise_loss(logits, noise, 0.0), F.binary_cross_entropy_with_logits(logits, noise))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_focal_is_finite_at_saturation(gamma, dtype):
    logits = torch.tensor([-100.0, 100.0, -100.0, 100.0, 0.0], dtype=dtype, requires_grad=True)
    noise = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0], dtype=dtype)
    loss = focal_noise_loss(logits, noise, gamma)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert logits.grad[1] > 0 and logits.grad[2] < 0  # a confident mistake still learns


@pytest.mark.parametrize(("lambda_focal", "gamma"), [(0.0, 2.0), (1.0, 2.0), (0.5, 0.0)])
def test_loss_equals_numpy(batch, lambda_focal, gamma):
    logits, y_t, y_0, f = (x.numpy() for x in batch)
    expected = expected_kl(logits, y_t, y_0, f) + lambda_focal * expected_focal(logits, np.abs(y_t - y_0), gamma)
    found = make_loss(lambda_focal=lambda_focal, gamma=gamma)(*batch, TIMESTEPS)
    assert found.shape == () and found.item() == pytest.approx(expected, abs=1e-5)


def test_defaults_are_the_papers(batch):
    paper = make_loss(lambda_focal=1.0, gamma=2.0, lambda_dice=0.0)
    assert torch.equal(make_loss()(*batch, TIMESTEPS), paper(*batch, TIMESTEPS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_true_noise_costs_nothing(batch, dtype):
    _, y_t, y_0, f = (x.to(dtype) for x in batch)
    assert abs(make_loss(lambda_focal=0.0)(true_logits(y_t, y_0), y_t, y_0, f, TIMESTEPS).item()) <= 1e-6


def test_gradient_reaches_logits_and_prior(batch):
    logits, y_t, y_0, f = batch
    logits, f = logits.requires_grad_(), f.requires_grad_()
    make_loss(lambda_focal=0.0)(logits, y_t, y_0, f, TIMESTEPS).backward()
    assert (logits.grad != 0).all()
    assert torch.isfinite(f.grad).all() and (f.grad[1:] != 0).any(dim=(1, 2, 3)).all()


def test_gradient_of_the_logits_equals_finite_differences(batch):
    few = [x[:, :1, :2, :1].contiguous() for x in batch]
    loss = make_loss(lambda_dice=0.3)
    assert torch.autograd.gradcheck(
        lambda logits: loss(logits, *few[1:], TIMESTEPS), few[0].requires_grad_(), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [-100.0, 100.0])
def test_loss_is_finite_at_saturation(batch, dtype, size):
    _, y_t, y_0, f = (x.to(dtype) for x in batch)
    for prior in (torch.zeros_like(f), torch.ones_like(f), f.round(), f):
        logits, prior = true_logits(y_t, y_0, size).requires_grad_(), prior.clone().requires_grad_()
        loss = make_loss(lambda_dice=1.0)(logits, y_t, y_0, prior, TIMESTEPS)
        loss.backward()
        assert all(torch.isfinite(x).all() for x in (loss, logits.grad, prior.grad))


def test_dice_term_scores_the_predicted_mask(batch):
    _, y_t, _, f = batch
    y_0 = torch.zeros(SHAPE, dtype=torch.float64)
    y_0[:, :, 1:5, 1:6] = 1

    def dice(size, weight=1.0):
        arguments = (true_logits(y_t, y_0, size), y_t, y_0, f, TIMESTEPS)
        return (make_loss(lambda_dice=weight)(*arguments) - make_loss()(*arguments)).item()

    assert dice(30.0) == pytest.approx(0, abs=1e-3)
    assert dice(-30.0) == pytest.approx(1, abs=0.1)  # every pixel wrong
    assert 0.05 < dice(0.5) < 0.95
    assert dice(0.5, weight=3.0) == pytest.approx(3 * dice(0.5))


def test_dice_of_each_image_counts_a_small_structure_as_much_as_a_large_one():
    """A large structure that is found beside a small one that is missed: half of the images are wrong."""
    y_0 = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
    y_0[0, :, 2:14, 2:14] = 1  # 144 pixels
    y_0[1, :, 5:7, 5:7] = 1  # 4 pixels
    estimate = y_0.clone()
    estimate[1] = 0
    y_t, f, t = torch.zeros_like(y_0), torch.full_like(y_0, 0.5), torch.tensor([9, 9])
    arguments = (100 * (2 * estimate - 1), y_t, y_0, f, t)  # y_t = 0: the noise is the estimate

    def dice(**settings):
        return (make_loss(lambda_dice=1.0, **settings)(*arguments) - make_loss(lambda_dice=0.0)(*arguments)).item()

    assert dice(dice_per_image=True) == pytest.approx(0.5, abs=1e-3)
    assert dice(dice_per_image=False) == pytest.approx(1 - 2 * 144 / (144 + 148), abs=1e-3)
