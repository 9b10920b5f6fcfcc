"""The joint module: untrained it returns the prior, and it works once per image what depends on the image alone."""

import pytest
import torch
from torch import nn

from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

CHANNELS = (4, 4, 4, 4, 8, 8)


def joint(image_channels: int = 3, num_targets: int = 1, exclusive: bool = False, noisy: bool = False) -> HiDiff:
    segmentor = UNetSegmentor(image_channels, num_targets, (2, 2, 4, 4, 6, 8))
    refiner = DiffusionRefiner(
        image_channels, num_targets, segmentor.feature_channels, channels=CHANNELS, embedding_dim=8, num_heads=2
    )
    if noisy:
        nn.init.normal_(refiner.correction.weight)
    nn.init.normal_(segmentor.head.weight)
    return HiDiff(segmentor, refiner, BernoulliScheduler(10), exclusive).eval()


class TrueNoise(nn.Module):
    """A refiner that knows y_0."""

    def __init__(self, original: torch.Tensor) -> None:
        super().__init__()
        self.original = original

    def encode_condition(self, image: torch.Tensor, prior: torch.Tensor, features: list[torch.Tensor]) -> list:
        return []

    def repeat_condition(self, condition: list, num_samples: int) -> list:
        return condition

    def denoise(self, sample: torch.Tensor, *others: object) -> torch.Tensor:
        return ((sample != self.original).to(sample.dtype) * 2 - 1) * 1000


@pytest.mark.parametrize(("image_channels", "num_targets", "exclusive"), [(1, 1, False), (3, 4, True), (4, 9, True)])
@torch.no_grad()
def test_untrained_hard_decisions_return_the_prior(image_channels: int, num_targets: int, exclusive: bool) -> None:
    network, image = joint(image_channels, num_targets, exclusive), torch.rand(2, image_channels, 37, 50)
    _, prior, _ = network.predict_prior(image)
    assert prior.shape == (2, num_targets, 37, 50) and (prior > 0).all() and (prior < 1).all()
    torch.testing.assert_close(network(image), prior, rtol=0, atol=4e-4)
    if exclusive:
        ones = torch.ones(2, 37, 50)
        torch.testing.assert_close(prior.sum(1), ones)
        torch.testing.assert_close(network(image).sum(1), ones)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "hard"])
@pytest.mark.parametrize("num_steps", [1, 3, 10])
@torch.no_grad()
def test_every_untrained_sampler_returns_the_prior(sampler: str, num_steps: int) -> None:
    network, image = joint(), torch.rand(1, 3, 32, 32)
    network.sampler, network.num_inference_steps = sampler, num_steps
    torch.testing.assert_close(network(image), network.predict_prior(image)[1], rtol=0, atol=2e-4)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "hard"])
@pytest.mark.parametrize("num_steps", [1, 4, 10])
@torch.no_grad()
def test_true_noise_recovers_the_mask(sampler: str, num_steps: int) -> None:
    original = torch.randint(2, (2, 1, 32, 32)).float()
    network = HiDiff(joint().segmentor, TrueNoise(original), BernoulliScheduler(10), num_inference_steps=num_steps)
    network.sampler = sampler
    assert torch.equal(network.eval()(torch.rand(2, 3, 32, 32)), original)


@torch.no_grad()
def test_conditions_are_computed_once_for_all_steps_and_samples() -> None:
    network, calls = joint(), []
    network.sampler, network.num_samples = "ddim", 3
    once = {"segmentor": network.segmentor, "stem_image": network.refiner.stem_image}
    once |= {f"projection {i}": layer for i, layer in enumerate(network.refiner.projections)}
    for name, layer in (once | {"step": network.refiner.stem_sample}).items():
        layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    network(torch.rand(1, 3, 32, 32))
    assert {name: calls.count(name) for name in once} == dict.fromkeys(once, 1) and len(once) == 6
    assert calls.count("step") == 10


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@torch.no_grad()
def test_samples_in_one_batch_are_distributed_like_single_runs(sampler: str) -> None:
    network, image, num_samples = joint(noisy=True), torch.rand(1, 3, 32, 32), 40
    _, prior, features = network.predict_prior(image)
    condition = network.refiner.encode_condition(image, prior, features)
    together = network.sample(prior, condition, sampler, 2, num_samples)
    single = torch.stack([network.reverse(prior, condition, sampler, 2) for _ in range(num_samples)])
    assert together.shape == (num_samples, 1, 1, 32, 32)

    def scores(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Differences of the means over the first axis in units of their standard error."""
        error = (one.var(0) + other.var(0)).div(num_samples).sqrt().clamp(min=1e-3)
        return (one.mean(0) - other.mean(0)) / error

    # unit normals; pixels of one chain hang together, so that only chains are independent
    assert scores(together, single).abs().mean() < 1.0
    assert scores(together.flatten(1).mean(1), single.flatten(1).mean(1)).abs() < 3.5
    assert (together[0] - together[1]).abs().max() > 0.01  # and the samples differ


@torch.no_grad()
def test_generator_decides_the_draws() -> None:
    network, image = joint(noisy=True), torch.rand(1, 3, 32, 32)
    _, prior, features = network.predict_prior(image)
    condition = network.refiner.encode_condition(image, prior, features)

    def draw(seed: int) -> torch.Tensor:
        return network.sample(prior, condition, "ddim", 3, 2, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


@torch.no_grad()
def test_odd_sizes_equal_the_padded_image() -> None:
    network, image = joint(noisy=True), torch.rand(2, 3, 50, 33)
    padded = nn.functional.pad(image, (0, 31, 0, 14), mode="replicate")
    _, prior, _ = network.predict_prior(image)
    torch.testing.assert_close(prior, network.predict_prior(padded)[1][:, :, :50, :33])
    assert network(image).shape == (2, 1, 50, 33)


@torch.no_grad()
def test_autocast_keeps_the_prior() -> None:
    network, image = joint(), torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        refined, prior = network(image), network.predict_prior(image)[1]
    torch.testing.assert_close(refined.float(), prior.float(), rtol=0, atol=1e-2)


def test_state_dict_is_flat_and_the_schedule_is_not_in_it() -> None:
    names = list(joint().state_dict())
    assert {name.split(".")[0] for name in names} == {"segmentor", "refiner"}


@torch.no_grad()
def test_wrong_settings_are_explained() -> None:
    network, image = joint(), torch.rand(1, 3, 32, 32)
    network.sampler = "DDIM"
    with pytest.raises(ValueError, match="sampler is 'DDIM'; expected"):
        network(image)
    network.sampler = "ddim"
    for number in (-1, 0, 11):  # -1 steps would give the prior and call it refined
        network.num_inference_steps = number
        with pytest.raises(ValueError, match=f"num_inference_steps is {number}; expected an integer from 1 to 10"):
            network(image)
