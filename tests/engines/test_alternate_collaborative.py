"""Algorithm 1: each network trains while the other stands still, and f learns through g."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from hidiff_monai.engines import AlternateCollaborativeTrainer, UpdatePlan
from hidiff_monai.handlers import AlternateCollaborativeHandler
from hidiff_monai.losses import DiscriminativeLoss

ONLY_SEGMENTOR = UpdatePlan(updates_refiner=False)


def contents(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, buffers (the non-persistent too) and stored gradients."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    tensors |= {f"{name}.grad": value.grad for name, value in network.named_parameters() if value.grad is not None}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before.keys() | after.keys() if not _equal(before.get(name), after.get(name))}


def _equal(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)


def watch(trainer: AlternateCollaborativeTrainer, method: str, moving: nn.Module, still: nn.Module) -> list[set[str]]:
    """Lets ``method`` report what changed in ``moving``, and fail when anything changed in ``still``."""
    update, reports = getattr(trainer, method), []

    def watched(*args: Any) -> Any:
        before_moving, before_still = contents(moving), contents(still)
        result = update(*args)
        assert changed(before_still, contents(still)) == set()
        reports.append(changed(before_moving, contents(moving)))
        return result

    setattr(trainer, method, watched)
    return reports


def test_frozen_network_is_bit_identical_over_ten_alternations(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    network = make_network()
    trainer = make_trainer(network, make_batches(10))
    refiner_reports = watch(trainer, "_update_refiner", network.refiner, network.segmentor)
    segmentor_reports = watch(trainer, "_update_segmentor", network.segmentor, network.refiner)
    trainer.run()
    for reports, moving in ((refiner_reports, network.refiner), (segmentor_reports, network.segmentor)):
        assert len(reports) == 10
        counters = {name for name, _ in moving.named_buffers() if name.endswith("num_batches_tracked")}
        weights = {name for name, _ in moving.named_parameters() if name.endswith("weight")}
        assert all(counters | weights <= report for report in reports)
        assert all(int(moving.get_buffer(name)) == 10 for name in counters)


def test_pretraining_leaves_the_refiner_untouched(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    network = make_network()
    before_refiner, before_segmentor = contents(network.refiner), contents(network.segmentor)
    trainer = make_trainer(network, make_batches(3), train_handlers=[AlternateCollaborativeHandler(1)])
    trainer.run()
    assert changed(before_refiner, contents(network.refiner)) == set()
    assert len(changed(before_segmentor, contents(network.segmentor))) > 0
    output = trainer.state.output
    assert set(output) == {"image", "label", "prior", "pred", "loss", "loss_segmentor"}
    assert torch.equal(output[Keys.LOSS], output["loss_segmentor"])


def segmentor_gradients(trainer: AlternateCollaborativeTrainer, plan: UpdatePlan) -> list[torch.Tensor]:
    """f's gradients of one mini-batch, with the same draws for every plan."""
    trainer.plan = plan
    torch.manual_seed(7)
    trainer.run()
    return [parameter.grad for parameter in trainer.network.segmentor.parameters()]


def diffusion_gradients(trainer: AlternateCollaborativeTrainer, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The gradient of L_Diff through a standing g, worked out without the trainer's update.

    To be compared for real-valued refiners only: rounding flips signs of the binarized one.
    """
    network = deepcopy(trainer.network)
    network.segmentor.train()
    network.refiner.eval()
    torch.manual_seed(7)
    _, prior, features = network.predict_prior(batch["image"])
    noisy = trainer._draw(batch["label"], prior.detach())
    logits = network.refiner(batch["image"], noisy.sample, prior, features, noisy.timesteps)
    loss = trainer.loss_function(logits, noisy.sample, batch["label"], prior, noisy.timesteps)
    return list(torch.autograd.grad(loss, list(network.segmentor.parameters())))


def test_segmentor_receives_the_diffusion_gradient_through_the_refiner(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    batches, make_network = make_batches(1), partial(make_network, binarized=False)
    expected = diffusion_gradients(make_trainer(make_network(), batches), batches[0])
    assert all(gradient.abs().sum() > 0 for gradient in expected[-2:])
    alone = segmentor_gradients(make_trainer(make_network(), batches), UpdatePlan(updates_refiner=False, lambda_diff=0))
    hybrid = segmentor_gradients(make_trainer(make_network(), batches), ONLY_SEGMENTOR)
    doubled = segmentor_gradients(
        make_trainer(make_network(), batches), UpdatePlan(updates_refiner=False, lambda_diff=2.0)
    )
    for f_alone, f_hybrid, f_doubled, diffusion in zip(alone, hybrid, doubled, expected, strict=True):
        torch.testing.assert_close(f_hybrid - f_alone, diffusion, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(f_doubled - f_alone, 2 * diffusion, atol=1e-6, rtol=1e-4)


def test_with_l_disc_zeroed_the_refiner_alone_moves_the_segmentor(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    batches, network = make_batches(1), make_network(binarized=False)
    trainer = make_trainer(network, batches, discriminative_loss=lambda logits, labels: 0 * logits.sum())
    expected = diffusion_gradients(trainer, batches[0])
    for gradient, diffusion in zip(segmentor_gradients(trainer, ONLY_SEGMENTOR), expected, strict=True):
        torch.testing.assert_close(gradient, diffusion, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(
    ("power", "weights"),
    [(0, [0.1] * 10), (1, [k / 55 for k in range(1, 11)]), (6, [k**6 / 1978405 for k in range(1, 11)])],
)
def test_timesteps_follow_the_power(
    power: float, weights: list[float], make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    trainer = make_trainer(make_network(), make_batches(1), timestep_power=power)
    labels = torch.zeros(50_000, 1, 1, 1)
    frequencies = trainer._draw(labels, labels + 0.5).timesteps.bincount(minlength=10) / len(labels)
    expected = torch.tensor(weights, dtype=torch.float64)
    standard_errors = (expected * (1 - expected) / len(labels)).sqrt()
    assert ((frequencies - expected).abs() <= 4 * standard_errors + 1e-9).all()


def test_the_refiner_learns_from_the_prior_of_the_network_it_is_given(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    network, average = make_network(), make_network(seed=3)
    average.eval().segmentor.head.bias.data.fill_(1.0)
    (batch,) = make_batches(1)
    before = contents(average)
    trainer = make_trainer(network, [batch], prior_network=average)
    trainer.plan = UpdatePlan(updates_segmentor=False)
    trainer.run()
    with torch.no_grad():
        expected, other = (each.eval().predict_prior(batch["image"])[1] for each in (average, network))
    torch.testing.assert_close(trainer.state.output["prior"], expected)
    assert (expected - other).abs().min() > 0.1
    assert changed(before, contents(average)) == set()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_starts_are_hard_decisions(
    share: float, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    trainer = make_trainer(make_network(), make_batches(1), hard_start_share=share)
    labels, prior = torch.zeros(4000, 1, 8, 8), torch.rand(1, 1, 8, 8).expand(4000, 1, 8, 8)
    noisy = trainer._draw(labels, prior)
    is_hard = (noisy.sample == (prior > 0.5)).flatten(1).all(1)
    is_start = noisy.timesteps == 9
    assert not is_hard[~is_start].any()
    number = int(is_start.sum())
    assert abs(float(is_hard[is_start].sum()) - share * number) <= 4 * (share * (1 - share) * number) ** 0.5
    drawn = noisy.sample[is_start & ~is_hard]
    if len(drawn):  # the others remain draws from B(f)
        errors = (prior[0] * (1 - prior[0]) / len(drawn)).sqrt()
        assert ((drawn.mean(0) - prior[0]).abs() <= 4.5 * errors).all()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_refused(
    share: float, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    with pytest.raises(ValueError, match=rf"hard_start_share is {share}; expected a share from 0 \(the paper\) to 1"):
        make_trainer(make_network(), make_batches(1), hard_start_share=share)


def test_estimate_is_the_prediction_and_losses_add_up(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    trainer = make_trainer(make_network(), make_batches(2))
    trainer.run()
    output = trainer.state.output
    assert output[Keys.PRED].shape == output[Keys.LABEL].shape
    assert output[Keys.PRED].min() >= 0 and output[Keys.PRED].max() <= 1
    assert output[Keys.LOSS].item() == pytest.approx(output["loss_refiner"].item() + output["loss_segmentor"].item())


@pytest.mark.parametrize("value", [2.0, 255.0, 0.5])
def test_labels_that_are_no_masks_end_the_training(
    make_network: Callable, make_trainer: Callable, make_batches: Callable, value: float
) -> None:
    """Cross-entropy of such labels has no lower bound: the loss would fall, and every check pass."""
    batches = [{**batch, "label": batch["label"] * value} for batch in make_batches(1)]
    with pytest.raises(ValueError, match=f"values from 0 to {value:g}; expected 0 and 1"):
        make_trainer(make_network(), batches).run()


@pytest.mark.parametrize("of_network", [True, False])
def test_exclusive_in_one_place_only_is_refused(
    make_network: Callable, make_trainer: Callable, make_batches: Callable, of_network: bool
) -> None:
    network = make_network(num_targets=3)
    network.exclusive = of_network
    with pytest.raises(ValueError, match=f"exclusive is {of_network} in network_def and {not of_network} in"):
        make_trainer(network, make_batches(1), discriminative_loss=DiscriminativeLoss(exclusive=not of_network))


def test_hard_starts_take_masks_of_half_precision(make_network: Callable, make_trainer: Callable) -> None:
    images = torch.rand(1, 2, 1, 16, 16)
    batches = [{"image": image.bfloat16(), "label": (image > 0.7).bfloat16()} for image in images]
    trainer = make_trainer(make_network(), batches, hard_start_share=1.0, timestep_power=1e3, amp=True)
    trainer.run()
    assert trainer.state.iteration == 1
