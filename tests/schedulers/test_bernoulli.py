"""Oracle tests of the Bernoulli scheduler: the two-state Markov chain of Eqs. 3-7, enumerated with 2x2 matrices."""

import itertools
import math
import re
from functools import reduce

import numpy as np
import pytest
import torch
from torch import nn

from hidiff_monai.schedulers import BernoulliScheduler

T = 10
TOLERANCE = 1e-10
PRIORS = (0.0, 1e-12, 1e-6, 0.1, 0.35, 0.5, 0.8, 1.0 - 1e-6, 1.0 - 1e-12, 1.0)
PAIRS = [(t, s) for t in range(T) for s in range(-1, t)]
SAMPLERS = ("ddpm", "ddim", "hard")


def cosine_abar(step, num_steps, s=0.008):
    """The paper's abar(step), step = 0 ... num_steps."""

    def angle(u):
        return (u + s) / (1 + s) * math.pi / 2

    return math.cos(angle(step / num_steps)) ** 2 / math.cos(angle(0.0)) ** 2


ABAR = np.array([*(cosine_abar(t + 1, T) for t in range(T - 1)), 0.0])  # cos(pi/2) is 0 but for rounding


def kernel(t, f):
    """P[i, j] = q(y_t = j | y_{t-1} = i), Eq. 5, code index t."""
    alpha = ABAR[t] / (ABAR[t - 1] if t > 0 else 1.0)
    return np.array([[alpha * (i == j) + (1 - alpha) * (f, 1 - f)[j == 0] for j in (0, 1)] for i in (0, 1)])


def transition(s, t, f):
    """P[i, j] = q(y_t = j | y_s = i) for s < t; s = -1 is y_0."""
    return reduce(np.matmul, (kernel(u, f) for u in range(s + 1, t + 1)))


def grids(dtype=torch.float64, priors=PRIORS):
    """All (y_t, y_0, f) as (1, 1, N) tensors."""
    states = torch.tensor(list(itertools.product((0, 1), (0, 1), priors)), dtype=dtype)
    return [column[None, None] for column in states.T.contiguous()]


def at(t):
    return torch.tensor([t])


def assert_frequency(draws, mean):
    """Draws along the last axis agree with the mean within 4 standard errors (exactly, where the mean is 0 or 1)."""
    bound = 4 * (mean * (1 - mean) / draws.shape[-1]).sqrt() + 1e-12
    assert ((draws.mean(-1) - mean).abs() <= bound).all()


@pytest.fixture
def scheduler():
    return BernoulliScheduler(num_train_timesteps=T)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 10, 100, 1000])
def test_schedule_equals_the_formula(num_steps):
    found = BernoulliScheduler(num_train_timesteps=num_steps).alphas_cumprod
    expected = torch.tensor([cosine_abar(t + 1, num_steps) for t in range(num_steps)], dtype=torch.float64)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    assert abs(found[-1].item()) <= 1e-12
    assert (found.diff() < 0).all() and found[0] < 1


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.float, lambda m: m.to(torch.float16), nn.Module.bfloat16])
def test_schedule_survives_casts(scheduler, cast):
    before = scheduler.alphas_cumprod.clone()
    cast(nn.Sequential(scheduler, nn.Linear(1, 1)))
    cast(scheduler)
    assert scheduler.alphas_cumprod.dtype == torch.float64
    assert torch.equal(scheduler.alphas_cumprod, before)


def test_schedule_is_a_buffer_outside_the_state_dict(scheduler):
    assert "alphas_cumprod" in dict(scheduler.named_buffers())
    assert len(scheduler.state_dict()) == 0


@pytest.mark.parametrize("arguments", [{"num_train_timesteps": 0}, {"schedule": "cosine_of_nobody"}])
def test_constructor_refuses(arguments):
    with pytest.raises(ValueError):
        BernoulliScheduler(**arguments)


@pytest.mark.parametrize("t", range(T))
def test_marginal_equals_enumeration(scheduler, t):
    _, y_0, f = grids()
    expected = [transition(-1, t, fi)[int(yi), 1] for yi, fi in zip(y_0.flatten(), f.flatten().numpy(), strict=True)]
    found = scheduler.marginal(y_0, f, at(t)).flatten().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_posterior_equals_bayes_on_the_enumerated_chain(scheduler, t, s):
    y_t, y_0, f = grids()
    found = scheduler.posterior(y_t, y_0, f, at(t), at(s)).flatten().tolist()
    num_possible = 0
    for q, i, k, fi in zip(found, *(x.flatten().tolist() for x in (y_t, y_0, f)), strict=True):
        to_s = transition(-1, s, fi)[int(k)] if s >= 0 else np.eye(2)[int(k)]
        joint = to_s * transition(s, t, fi)[:, int(i)]  # over y_s
        assert 0 <= q <= 1
        if joint.sum() > 0:
            num_possible += 1
            assert q == pytest.approx(joint[1] / joint.sum(), rel=0, abs=TOLERANCE)
    assert num_possible >= 4 * (len(PRIORS) - 2) + 4


def test_posterior_before_step_0_is_the_mask_itself(scheduler):
    y_t, y_0, f = grids()
    soft = torch.rand(y_0.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for original, t in itertools.product((y_0, soft), range(T)):
        torch.testing.assert_close(scheduler.posterior(y_t, original, f, at(t), at(-1)), original, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_posterior_averages_to_the_marginal(scheduler, t, s):
    _, y_0, f = grids()
    p_t = scheduler.marginal(y_0, f, at(t))
    q = [scheduler.posterior(torch.full_like(f, y), y_0, f, at(t), at(s)) for y in (0, 1)]
    expected = scheduler.marginal(y_0, f, at(s)) if s >= 0 else y_0
    torch.testing.assert_close((1 - p_t) * q[0] + p_t * q[1], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_posterior_and_gradients_are_finite_at_saturation(scheduler, t, s, dtype):
    y_t, y_0, f = grids(dtype, priors=(0.0, 1e-30, 1e-8, 0.5, 1 - 1e-7, 1.0))
    for original in (y_0, y_0 * 0.98 + 0.01, torch.full_like(y_0, 0.5), y_0.clamp(1e-8, 1 - 1e-7)):
        original, prior = original.clone().requires_grad_(), f.clone().requires_grad_()
        q = scheduler.posterior(y_t, original, prior, at(t), at(s))
        assert torch.isfinite(q).all() and (q >= 0).all() and (q <= 1).all()
        for grad in torch.autograd.grad(q.sum(), (original, prior), allow_unused=True, materialize_grads=True):
            assert torch.isfinite(grad).all()


def test_posterior_in_float32_equals_float64(scheduler):
    """Confident priors, sigmoid(-15 ... 15), in the precision that networks run in."""
    y_t, y_0, f = grids(torch.float32, priors=torch.sigmoid(torch.linspace(-15, 15, 61)).tolist())
    for t, s in PAIRS:
        found = scheduler.posterior(y_t, y_0, f, at(t), at(s)).double()
        expected = scheduler.posterior(y_t.double(), y_0.double(), f.double(), at(t), at(s))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_posterior_gradient_equals_finite_differences(scheduler):
    y_t, y_0, f = grids(priors=(0.2, 0.7))
    soft = (y_0 * 0.6 + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: scheduler.posterior(y_t, a, b, at(6), at(3)), (soft, f.requires_grad_())
    )


def test_every_image_has_its_own_timestep(scheduler):
    y_t, y_0, f = (x.reshape(1, 2, 1, 4, -1).expand(3, -1, -1, -1, -1) for x in grids())  # volumes (B, K, D, H, W)
    t, s = torch.tensor([9, 0, 4]), torch.tensor([5, -1, 3])
    for i in range(3):
        one = [x[i : i + 1] for x in (y_t, y_0, f, t, s)]
        torch.testing.assert_close(scheduler.posterior(y_t, y_0, f, t, s)[i : i + 1], scheduler.posterior(*one))
        torch.testing.assert_close(scheduler.marginal(y_0, f, t)[i : i + 1], scheduler.marginal(*one[1:4]))


def test_add_noise_has_the_marginal(scheduler):
    _, y_0, f = (x.reshape(1, 1, -1, 1).expand(T, 1, -1, 5000) for x in grids(priors=(0.0, 0.1, 0.5, 0.8, 1.0)))
    noisy = scheduler.add_noise(y_0, f, torch.arange(T), generator=torch.Generator().manual_seed(0))
    assert set(noisy.unique().tolist()) == {0.0, 1.0} and noisy.dtype == y_0.dtype
    assert torch.equal(noisy[y_0 == f], y_0[y_0 == f])
    assert_frequency(noisy, scheduler.marginal(y_0, f, torch.arange(T))[..., 0])


def test_add_noise_is_reproducible(scheduler):
    y_0, f = torch.zeros(2, 1, 32, 32), torch.full((2, 1, 32, 32), 0.5)
    before = torch.get_rng_state()
    first, again, other = (
        scheduler.add_noise(y_0, f, torch.tensor([4, 9]), generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_steps", [1, 3, 10])
def test_reverse_chain_with_the_true_noise_ends_in_the_mask(scheduler, sampler, num_steps):
    _, y_0, f = (x.repeat(1, 1, 50) for x in grids())
    generator = torch.Generator().manual_seed(0)
    scheduler.set_timesteps(num_steps)
    steps = [*scheduler.timesteps.tolist(), -1]
    sample = torch.bernoulli(f, generator=generator)
    for t, s in itertools.pairwise(steps):
        noise = (sample - y_0).abs()
        sample, predicted = scheduler.step(noise, t, sample, f, s, sampler=sampler, generator=generator)
        assert torch.equal(predicted, y_0)
        assert ((sample == 0) | (sample == 1)).all()
    assert torch.equal(sample, y_0)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize(("t", "s"), [(9, 8), (9, 0), (9, 4), (5, 4), (6, 2), (1, 0)])
def test_step_with_the_true_noise_keeps_the_marginal(scheduler, sampler, t, s):
    _, y_0, f = (x.reshape(1, 1, -1, 1).expand(1, 1, -1, 20000) for x in grids())
    generator = torch.Generator().manual_seed(t + 10 * s)
    y_t = torch.bernoulli(scheduler.marginal(y_0, f, at(t)), generator=generator)
    y_s, _ = scheduler.step((y_t - y_0).abs(), t, y_t, f, s, sampler=sampler, generator=generator)
    assert_frequency(y_s, scheduler.marginal(y_0, f, at(s))[..., 0])


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize(("t", "s"), [(9, 6), (5, 4), (6, 2)])
def test_step_draws_from_the_published_mean(scheduler, sampler, t, s):
    y_t, noise, f = (x.reshape(1, 1, -1, 1).expand(1, 1, -1, 20000) for x in grids(priors=(0.1, 0.5, 0.8)))
    noise = noise * 0.6 + 0.1  # eps_hat in {0.1, 0.7}
    y_s, predicted = scheduler.step(noise, t, y_t, f, s, sampler=sampler, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(predicted, (y_t - noise).abs(), rtol=0, atol=TOLERANCE)
    sigma = (1 - ABAR[s]) / (1 - ABAR[t])  # Algorithm 2, whose third term is then 0
    ddim = sigma * y_t + (ABAR[s] - sigma * ABAR[t]) * predicted
    mean = ddim if sampler == "ddim" else scheduler.posterior(y_t, predicted, f, at(t), at(s))
    assert_frequency(y_s, mean[..., 0])


def test_hard_step_is_the_decision(scheduler):
    noise = torch.linspace(0, 1, 41, dtype=torch.float64).expand(2, 1, 2, -1)
    y_t = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None, None, None].expand_as(noise)
    before = torch.get_rng_state()
    y_s, predicted = scheduler.step(noise, 7, y_t, torch.full_like(noise, 0.3), 6, sampler="hard")
    assert torch.equal(y_s, ((y_t - noise).abs() > 0.5).double()) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_last_step_returns_a_probability(scheduler, sampler):
    noise, y_t = torch.rand(2, 1, 5, 7), torch.rand(2, 1, 5, 7).round()
    y_0, predicted = scheduler.step(noise, 3, y_t, torch.rand(2, 1, 5, 7), -1, sampler=sampler)
    assert torch.equal(y_0, predicted) and torch.equal(predicted, (y_t - noise).abs())


@pytest.mark.parametrize("num_train_timesteps", [1, 2, 7, T, 100])
def test_timesteps_start_at_the_noisiest(num_train_timesteps):
    scheduler = BernoulliScheduler(num_train_timesteps)
    for num_steps in range(1, num_train_timesteps + 1):
        scheduler.set_timesteps(num_steps)
        timesteps = scheduler.timesteps
        assert timesteps.dtype == torch.long and len(timesteps) == num_steps
        assert timesteps[0] == num_train_timesteps - 1 and timesteps[-1] >= 0 and (timesteps.diff() < 0).all()


@pytest.mark.parametrize("num_steps", [0, -1, T + 1])
def test_a_chain_of_no_length_is_refused_where_it_is_run(scheduler, num_steps):
    """-1 steps would give the prior and call it refined."""
    with pytest.raises(ValueError, match=rf"num_inference_steps is {num_steps}; expected an integer from 1 to"):
        scheduler.inference_timesteps(num_steps)


@pytest.mark.parametrize("num_steps", [0, -1, T + 1, 2.5, "3", None])
def test_set_timesteps_refuses(scheduler, num_steps):
    with pytest.raises(ValueError, match=rf"{re.escape(repr(num_steps))}.*expected"):
        scheduler.set_timesteps(num_steps)


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 3, 4, 4), (2, 1, 1, 4), (2, 1, 4)])
def test_masks_of_different_shapes_are_refused(scheduler, shape):
    mask, other, t = torch.zeros(2, 1, 4, 4), torch.zeros(shape), torch.tensor([3, 4])
    calls = [
        lambda: scheduler.marginal(mask, other, t),
        lambda: scheduler.posterior(other, mask, mask, t, t - 1),
        lambda: scheduler.posterior(mask, other, mask, t, t - 1),
        lambda: scheduler.posterior(mask, mask, other, t, t - 1),
        lambda: scheduler.add_noise(mask, other, t),
        lambda: scheduler.step(other, 3, mask, mask, 2),
        lambda: scheduler.step(mask, 3, mask, other, 2),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()


def test_an_unknown_sampler_is_refused(scheduler):
    mask = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="soft"):
        scheduler.step(mask, 3, mask, mask, 2, sampler="soft")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float16, torch.float64])
def test_noisy_masks_are_0_and_1_in_the_dtype_of_the_mask(dtype: torch.dtype) -> None:
    mask = (torch.arange(64).reshape(1, 1, 8, 8) % 2).to(dtype)
    noisy = BernoulliScheduler(10).add_noise(mask, 1 - mask.float(), torch.tensor([9]))
    assert noisy.dtype == dtype and set(noisy.float().unique().tolist()) <= {0.0, 1.0}
    assert not torch.equal(noisy, mask)
