"""The Gaussian kernel against its definition: moments of a two-step chain, exact returns, the loss by hand."""

import pytest
import torch

from hidiff_monai.ablation import GaussianDiffusionLoss, GaussianHiDiff, GaussianRefiner, GaussianScheduler
from hidiff_monai.segmentors import UNetSegmentor

T = 10


@pytest.fixture
def scheduler() -> GaussianScheduler:
    return GaussianScheduler(T)


def at(t: int) -> torch.Tensor:
    return torch.tensor([t])


def test_noise_has_the_moments_of_the_marginal(scheduler: GaussianScheduler) -> None:
    mask = torch.ones(1, 1, 200_000)
    for t in (0, 4, T - 1):
        drawn = scheduler.add_noise(mask, torch.zeros_like(mask), at(t), torch.Generator().manual_seed(t))
        abar = float(scheduler.alphas_cumprod[t])
        assert float(drawn.mean()) == pytest.approx(abar**0.5, abs=0.01)
        assert float(drawn.var()) == pytest.approx(1 - abar, abs=0.01)


@pytest.mark.parametrize(("t", "s"), [(9, 8), (9, 4), (5, 4), (5, 0), (1, 0)])
def test_ancestral_steps_keep_the_marginal(scheduler: GaussianScheduler, t: int, s: int) -> None:
    """x_t ~ q(x_t | x_0), then x_s ~ q(x_s | x_t, x_0): x_s must be distributed as q(x_s | x_0)."""
    mask = torch.zeros(1, 1, 200_000)
    generator = torch.Generator().manual_seed(0)
    sample = scheduler.add_noise(mask, mask, at(t), generator)
    previous, estimate = scheduler.step(mask, t, sample, mask, s, "ddpm", generator)
    abar = float(scheduler.alphas_cumprod[s])
    assert float(previous.mean()) == pytest.approx(-(abar**0.5), abs=0.01)
    assert float(previous.var()) == pytest.approx(1 - abar, abs=0.01)
    assert torch.equal(estimate, mask)


def test_deterministic_steps_keep_the_noise(scheduler: GaussianScheduler) -> None:
    mask = (torch.rand(1, 1, 64) > 0.5).double()
    noise = torch.randn(1, 1, 64, dtype=torch.float64)

    def state(t: int) -> torch.Tensor:
        abar = scheduler.alphas_cumprod[t]
        return abar.sqrt() * (2 * mask - 1) + (1 - abar).sqrt() * noise

    for sampler in ("ddim", "hard"):
        previous, _ = scheduler.step(mask, 7, state(7), mask, 3, sampler)
        torch.testing.assert_close(previous, state(3))
    assert torch.equal(scheduler.step(mask, 0, state(0), mask, -1)[0], mask)


def test_what_no_chain_does_is_refused(scheduler: GaussianScheduler) -> None:
    state = torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match="sampler is 'dpm'; expected"):
        scheduler.step(state, 5, state, state, 2, "dpm")
    with pytest.raises(ValueError, match="prev_timestep 6, timestep 5; expected"):
        scheduler.step(state, 5, state, state, 6)
    assert scheduler.estimate_original(state - 3, state) is state  # the trainer's masks are the refiner's, not noise


def test_hard_decisions_round_the_estimate(scheduler: GaussianScheduler) -> None:
    estimate, sample = torch.full((1, 1, 4), 0.8), torch.randn(1, 1, 4)
    rounded, _ = scheduler.step(torch.ones_like(estimate), 5, sample, estimate, 2, "ddim")
    assert torch.equal(scheduler.step(estimate, 5, sample, estimate, 2, "hard")[0], rounded)


def test_untrained_network_returns_the_prior_with_every_sampler() -> None:
    segmentor = UNetSegmentor(3, 1, [8, 8, 8, 8, 16, 16])
    refiner = GaussianRefiner(
        3, 1, segmentor.feature_channels, segmentor.feature_strides, [8, 8, 8, 8, 16, 16], binarized=True
    )
    network = GaussianHiDiff(segmentor, refiner, GaussianScheduler(T)).eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        prior = network.predict_prior(image)[1]
        for network.sampler in ("hard", "ddim", "ddpm"):
            torch.testing.assert_close(network(image), prior, atol=2e-4, rtol=0)
    assert not network.start(prior, "hard").any()
    assert network.start(prior, "ddim").std() > 0.5


def test_loss_is_its_three_terms(scheduler: GaussianScheduler) -> None:
    logits, mask = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    loss = GaussianDiffusionLoss(scheduler, gamma=0.0, lambda_dice=1.0)
    squared, cross_entropy = 1.0, torch.tensor(2.0).log()
    dice = 1 - (2 * 0.5 + 1e-5) / (2 + 1 + 1e-5)
    expected = squared + cross_entropy + dice
    torch.testing.assert_close(loss(logits, mask, mask, mask, at(3)), expected)
    assert loss(20 * (2 * mask - 1), mask, mask, mask, at(3)) < 1e-3
