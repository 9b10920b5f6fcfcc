"""Inference: outputs and seeds, trajectories, windows and slices, and uncertainty in closed form."""

import math
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import nn

from hidiff_monai.inferers import OUTPUTS, BernoulliDiffusionInferer, ResizeInferer, case_uncertainty
from hidiff_monai.metrics import apply_temperature
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor


@pytest.fixture(scope="module")
def network() -> HiDiff:
    torch.manual_seed(0)
    segmentor = UNetSegmentor(1, 1, (2, 2, 4, 4, 4, 4))
    refiner = DiffusionRefiner(
        1, 1, segmentor.feature_channels, channels=(4, 4, 4, 4, 4, 4), embedding_dim=8, num_heads=2
    )
    nn.init.normal_(refiner.correction.weight)
    nn.init.normal_(segmentor.head.weight)
    return HiDiff(segmentor, refiner, BernoulliScheduler(10), num_inference_steps=3).eval()


def inferer(**arguments: Any) -> BernoulliDiffusionInferer:
    return BernoulliDiffusionInferer(**({"outputs": OUTPUTS} | arguments))


def test_one_output_is_the_networks_own_answer(network: HiDiff) -> None:
    image = torch.rand(2, 1, 40, 33)
    with torch.no_grad():
        expected = network(image)
    refined = BernoulliDiffusionInferer()(MetaTensor(image), network)
    assert torch.equal(refined, expected) and not refined.requires_grad


def test_several_outputs_come_by_name(network: HiDiff) -> None:
    results = inferer()(torch.rand(2, 1, 40, 33), network)
    assert list(results) == list(OUTPUTS)
    assert all(value.shape == (2, 1, 40, 33) for value in results.values())
    assert all(((value >= 0) & (value <= 1)).all() for value in results.values())


def test_one_hard_chain_has_the_uncertainty_of_its_probability(network: HiDiff) -> None:
    results = inferer()(torch.rand(1, 1, 32, 32), network)
    p = results["refined"].double()
    torch.testing.assert_close(results["variance"].double(), p * (1 - p))
    entropy = torch.distributions.Bernoulli(p).entropy()
    torch.testing.assert_close(results["entropy"].double(), entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_many_samples_give_mean_variance_and_entropy(network: HiDiff, sampler: str) -> None:
    image = torch.rand(1, 1, 32, 32)
    results = inferer(sampler=sampler, num_samples=5, num_inference_steps=2, seed=7)(image, network)
    _, prior, features = network.predict_prior(image)
    condition = network.refiner.encode_condition(image, prior, features)
    samples = network.sample(prior, condition, sampler, 2, 5, torch.Generator().manual_seed(7)).detach()
    mean = samples.mean(0)
    torch.testing.assert_close(results["refined"], mean)
    torch.testing.assert_close(results["variance"], ((samples - mean) ** 2).mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(results["prior"], prior.detach())
    entropy = -(mean.xlogy(mean) + (1 - mean).xlogy(1 - mean))
    torch.testing.assert_close(results["entropy"], entropy, rtol=1e-4, atol=1e-5)
    assert results["entropy"].max() <= math.log(2) + 1e-6


def test_hard_mask_stays_deterministic_when_samples_measure_the_uncertainty(network: HiDiff) -> None:
    image = torch.rand(1, 1, 32, 32)
    single, many = inferer()(image, network), inferer(num_samples=4, seed=0)(image, network)
    assert torch.equal(single["refined"], many["refined"])
    drawn = inferer(num_samples=4, seed=0, sampler="ddim")(image, network)
    assert torch.equal(many["variance"], drawn["variance"]) and torch.equal(many["entropy"], drawn["entropy"])


def test_seed_repeats_the_draws_and_leaves_the_global_generator_alone(network: HiDiff) -> None:
    image, state = torch.rand(1, 1, 32, 32), torch.get_rng_state()
    first, again, other = (BernoulliDiffusionInferer(sampler="ddim", seed=seed)(image, network) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("sampler", ["hard", "ddim", "ddpm"])
def test_trajectory_is_consistent(network: HiDiff, sampler: str) -> None:
    image = torch.rand(2, 1, 32, 48)
    one = BernoulliDiffusionInferer(sampler=sampler, num_inference_steps=4, seed=3)
    refined, trajectory = one.sample(image, network)
    assert torch.equal(refined, one(image, network))
    assert trajectory.timesteps == sorted(set(trajectory.timesteps), reverse=True) and trajectory.timesteps[0] == 9
    assert trajectory.states.shape == trajectory.estimates.shape == (4, 2, 1, 32, 48)
    assert set(trajectory.states.unique().tolist()) == {0.0, 1.0}
    assert ((trajectory.estimates >= 0) & (trajectory.estimates <= 1)).all()
    assert torch.equal(trajectory.estimates[-1], refined)
    if sampler == "hard":
        assert torch.equal(trajectory.states[1:], (trajectory.estimates[:-1] > 0.5).float())


def test_a_window_that_covers_the_image_changes_nothing(network: HiDiff) -> None:
    image = torch.rand(1, 1, 64, 64)
    whole = inferer()(image, network)
    windowed = inferer(window=SlidingWindowInferer((64, 64)))(MetaTensor(image), network)
    for name in OUTPUTS:
        torch.testing.assert_close(torch.as_tensor(windowed[name]), whole[name])


def test_windows_without_overlap_are_refined_one_by_one(network: HiDiff) -> None:
    image = torch.rand(1, 1, 64, 32)
    windowed = inferer(window=SlidingWindowInferer((32, 32), overlap=0.0))(image, network)
    top, bottom = inferer()(image[:, :, :32], network), inferer()(image[:, :, 32:], network)
    for name in OUTPUTS:
        torch.testing.assert_close(windowed[name], torch.cat([top[name], bottom[name]], dim=2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 2])
def test_a_volume_equals_its_slices(network: HiDiff, axis: int) -> None:
    volume = torch.rand(1, 1, 32, 32, 32)[:, :, :, :, :3].movedim(4, axis + 2)
    window = SliceInferer(spatial_dim=axis, roi_size=(32, 32), sw_batch_size=2)
    results = inferer(window=window)(volume, network)
    for name in OUTPUTS:
        assert results[name].shape == volume.shape
    for i in range(3):
        expected = inferer()(volume.select(axis + 2, i), network)
        for name in OUTPUTS:
            found = results[name].select(axis + 2, i)
            torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-5)


def test_case_uncertainty_by_hand() -> None:
    entropy = torch.tensor([[0.1, 0.2], [0.3, 0.6]])
    refined = torch.tensor([[0.9, 0.2], [0.7, 0.5]])
    assert case_uncertainty(entropy, refined) == pytest.approx(1.2 / 2)
    assert case_uncertainty(entropy, refined, torch.tensor([[1, 1], [0, 0]])) == pytest.approx(0.3)
    assert case_uncertainty(entropy, torch.zeros(2, 2)) == pytest.approx(1.2)  # no foreground: per 1 pixel
    margin = torch.nn.functional.pad
    assert case_uncertainty(margin(entropy, (5, 5)), margin(refined, (5, 5))) == pytest.approx(0.6)


@pytest.mark.parametrize("num_samples", [1, 4])
def test_temperature_scales_the_probability_and_what_the_entropy_is_of(network: HiDiff, num_samples: int) -> None:
    image = torch.rand(1, 1, 32, 32)
    plain, neutral, flat = (
        inferer(sampler="ddim", num_samples=num_samples, seed=1, temperature=temperature)(image, network)
        for temperature in (1.0, 1, 1.6)
    )
    assert all(torch.equal(plain[name], neutral[name]) for name in OUTPUTS)
    expected = apply_temperature(plain["refined"], 1.6)
    assert torch.equal(flat["refined"], expected) and not torch.equal(expected, plain["refined"])
    entropy = torch.distributions.Bernoulli(expected.double()).entropy()
    torch.testing.assert_close(flat["entropy"].double(), entropy, rtol=1e-4, atol=1e-5)
    assert torch.equal(flat["prior"], plain["prior"])
    variance = plain["variance"] if num_samples > 1 else expected * (1 - expected)
    torch.testing.assert_close(flat["variance"], variance)


@pytest.mark.parametrize(
    "window", [None, SlidingWindowInferer((32, 32), overlap=0.5, mode="gaussian"), ResizeInferer((32, 32))]
)
def test_no_temperature_moves_the_mask_through_any_window(network: HiDiff, window: Any) -> None:
    """Windows that disagree, or a map that is enlarged, would move it if each were scaled by itself."""
    image = torch.rand(1, 1, 48, 64)
    masks = [inferer(window=window, temperature=t)(image, network)["refined"] > 0.5 for t in (1.0, 0.3, 4.0)]
    assert 0 < masks[0].float().mean() < 1
    assert torch.equal(masks[0], masks[1]) and torch.equal(masks[0], masks[2])


def test_temperature_of_the_one_chain_is_that_of_the_call(network: HiDiff) -> None:
    image = torch.rand(1, 1, 32, 32)
    one = BernoulliDiffusionInferer(sampler="ddim", seed=3, temperature=2.0)
    refined, trajectory = one.sample(image, network)
    assert torch.equal(refined, one(image, network))
    assert torch.equal(refined, apply_temperature(trajectory.estimates[-1], 2.0))


def test_flips_are_means_of_every_way_turned_back(network: HiDiff) -> None:
    image = torch.rand(2, 1, 40, 64)
    results = inferer(flip_axes=[1, 0])(MetaTensor(image), network)
    assert inferer(flip_axes=(1, 0, 1)).flip_axes == [0, 1]
    ways = ([], [2], [3], [2, 3])
    alone = [inferer()(image.flip(axes), network) for axes in ways]
    for name in ("refined", "prior"):
        turned = torch.stack([one[name].flip(axes) for one, axes in zip(alone, ways, strict=True)])
        torch.testing.assert_close(results[name], turned.mean(0))
        assert not torch.allclose(turned[0], turned[1])
        if name == "refined":
            torch.testing.assert_close(results["variance"], turned.var(0, unbiased=False), rtol=1e-4, atol=1e-6)
            entropy = torch.distributions.Bernoulli(turned.mean(0).double()).entropy()
            torch.testing.assert_close(results["entropy"].double(), entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("flip_axes", "axis"), [([0], 2), ([1], 3)])
def test_a_flipped_image_has_the_flipped_mask(network: HiDiff, flip_axes: list[int], axis: int) -> None:
    image = torch.rand(1, 1, 32, 48)
    with_flips = inferer(flip_axes=flip_axes)
    results, turned = with_flips(image, network), with_flips(image.flip(axis), network)
    other = with_flips(image.flip(5 - axis), network)
    for name in OUTPUTS:
        torch.testing.assert_close(turned[name].flip(axis), results[name], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(other[name].flip(5 - axis), results[name], atol=1e-4)


def test_chains_of_every_flip_count_for_the_uncertainty(network: HiDiff) -> None:
    image = torch.rand(1, 1, 32, 32)
    results = inferer(flip_axes=[1], num_samples=3, num_inference_steps=2, seed=7)(image, network)
    generator, chains = torch.Generator().manual_seed(7), []
    for axes in ([], [3]):
        _, prior, features = network.predict_prior(image.flip(axes))
        condition = network.refiner.encode_condition(image.flip(axes), prior, features)
        chains.append(network.sample(prior, condition, "ddim", 2, 3, generator).flip([axis + 1 for axis in axes]))
    chains = torch.cat(chains).detach()
    torch.testing.assert_close(results["variance"], chains.var(0, unbiased=False), rtol=1e-4, atol=1e-6)
    assert torch.equal(results["refined"], inferer(flip_axes=[1], num_inference_steps=2)(image, network)["refined"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "temperature is 0; expected a number above 0"),
        ({"outputs": ("refined", "mean")}, r"outputs holds \['mean'\]; expected some of"),
        ({"outputs": ()}, "outputs holds nothing"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; expected 1 or more, or None"),
        ({"num_samples": -1}, "num_samples is -1; expected 1 or more, or None"),
        ({"sampler": "soft"}, "sampler is 'soft'; expected one of"),
        ({"flip_axes": [2]}, r"flip_axes is \[2\]; expected a list of 0, which flips the rows, and 1, the columns"),
        ({"flip_axes": [[0]]}, r"flip_axes is \[\[0\]\]; expected a list"),
        ({"flip_axes": [True]}, r"flip_axes is \[True\]; expected a list"),
        ({"flip_axes": 1}, "flip_axes is 1; expected a list"),
        ({"flip_axes": None}, "flip_axes is None; expected a list"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BernoulliDiffusionInferer(**arguments)
