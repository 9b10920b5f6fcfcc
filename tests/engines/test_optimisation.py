"""Gradient accumulation, clipping and mixed precision, on networks small enough to know the result."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Events
from torch import nn

from hidiff_monai.engines import AlternateCollaborativeTrainer, UpdatePlan
from hidiff_monai.losses import BernoulliDiffusionLoss, DiscriminativeLoss
from hidiff_monai.networks import HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import SegmentorOutput

Batches = list[dict[str, torch.Tensor]]
ONE_NETWORK = pytest.mark.parametrize(
    "plan", [UpdatePlan(updates_segmentor=False), UpdatePlan(updates_refiner=False)], ids=["refiner", "segmentor"]
)


class ToySegmentor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> SegmentorOutput:
        return SegmentorOutput(self.conv(image), [])


class ToyRefiner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Any, sample: Any, prior: Any, features: Any, timesteps: Any) -> torch.Tensor:
        return self.conv(torch.cat([image, sample, prior], dim=1))


def train(
    make_trainer: Callable, batches: Batches, lr: float = 0.5, plan: UpdatePlan | None = None, **kwargs: Any
) -> AlternateCollaborativeTrainer:
    """One epoch of norm-free networks with plain gradient descent and fixed y_t; the losses are means over pixels."""
    torch.manual_seed(0)
    network = kwargs.pop("network", None) or HiDiff(ToySegmentor(), ToyRefiner(), BernoulliScheduler())
    trainer = make_trainer(
        network,
        batches,
        segmentor_optimizer=torch.optim.SGD(network.segmentor.parameters(), lr),
        refiner_optimizer=torch.optim.SGD(network.refiner.parameters(), lr),
        discriminative_loss=DiscriminativeLoss(lambda_dice=0.0),
        diffusion_loss=BernoulliDiffusionLoss(network.scheduler),
        **kwargs,
    )
    trainer._draw = lambda labels, prior: SimpleNamespace(
        timesteps=torch.full([len(labels)], 5), sample=(labels.roll(1, -1) - labels).abs()
    )
    trainer.plan = plan or trainer.plan
    trainer.run()
    return trainer


def join(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: torch.cat([first[key], second[key]]) for key in first}


def assert_close(first: AlternateCollaborativeTrainer, second: AlternateCollaborativeTrainer) -> None:
    torch.testing.assert_close(first.network.state_dict(), second.network.state_dict(), atol=3e-5, rtol=1e-4)


@ONE_NETWORK
def test_two_accumulated_mini_batches_are_one_of_double_size(
    plan: UpdatePlan, make_trainer: Callable, make_batches: Callable
) -> None:
    one, two, three, four = make_batches(4)
    accumulated = train(make_trainer, [one, two, three, four], plan=plan, accumulation_steps=2)
    assert_close(accumulated, train(make_trainer, [join(one, two), join(three, four)], plan=plan))
    torch.manual_seed(0)
    untrained = HiDiff(ToySegmentor(), ToyRefiner(), BernoulliScheduler()).state_dict()
    moved = [key for key, value in accumulated.network.state_dict().items() if not torch.equal(value, untrained[key])]
    trained = "segmentor" if plan.updates_segmentor else "refiner"
    assert moved == [f"{trained}.conv.weight", f"{trained}.conv.bias"]


def test_while_accumulating_the_segmentor_learns_through_the_refiner_as_it_was(
    make_trainer: Callable, make_batches: Callable
) -> None:
    """g steps once in a window, at its end; a learning rate near 0 leaves no difference to one large batch."""
    one, two = make_batches(2)
    first = train(make_trainer, [one, two], lr=1e-4, accumulation_steps=2)
    second = train(make_trainer, [join(one, two)], lr=1e-4)
    for left, right in zip(first.network.parameters(), second.network.parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad, atol=1e-6, rtol=1e-4)


@ONE_NETWORK
def test_what_is_left_over_is_applied_at_the_end_of_the_epoch(
    plan: UpdatePlan, make_trainer: Callable, make_batches: Callable
) -> None:
    """A window of one mini-batch weighs half: with gradient descent, half the learning rate."""
    one, two, three = make_batches(3)
    expected = train(make_trainer, [join(one, two)], plan=plan)
    expected = train(make_trainer, [three], lr=0.25, plan=plan, network=expected.network)
    assert_close(train(make_trainer, [one, two, three], plan=plan, accumulation_steps=2), expected)


def test_clipping_scales_each_network_s_gradient_to_the_norm(make_trainer: Callable, make_batches: Callable) -> None:
    batches = make_batches(1)
    free, clipped = train(make_trainer, batches), train(make_trainer, batches, max_grad_norm=1e-3)
    for name in ("refiner", "segmentor"):
        gradient, limited = (
            torch.cat([p.grad.flatten() for p in getattr(trainer.network, name).parameters()])
            for trainer in (free, clipped)
        )
        assert gradient.norm() > 1e-2
        assert limited.norm().item() == pytest.approx(1e-3, rel=1e-3)
        if name == "refiner":  # f's own gradient already depends on how far g went
            torch.testing.assert_close(limited, gradient * 1e-3 / gradient.norm(), atol=1e-8, rtol=1e-3)


class ScaleFrom:
    """Gives the trainer a gradient scaler that works on the CPU, where MONAI's is switched off."""

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        self.scaler = scaler

    def attach(self, engine: AlternateCollaborativeTrainer) -> None:
        engine.add_event_handler(Events.STARTED, lambda: setattr(engine, "scaler", self.scaler))


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_loss_scaling_changes_nothing_and_is_updated_once_per_step(
    accumulation_steps: int, make_trainer: Callable, make_batches: Callable
) -> None:
    batches, scaler = make_batches(4), torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=1)
    options = {"accumulation_steps": accumulation_steps, "max_grad_norm": 0.1}
    scaled = train(make_trainer, batches, train_handlers=[ScaleFrom(scaler)], **options)
    plain = train(make_trainer, batches, **options)
    for key, value in plain.network.state_dict().items():
        assert torch.equal(scaled.network.state_dict()[key], value), key
    assert scaler.get_scale() == 2.0 ** (8 + 4 // accumulation_steps)


def test_bfloat16_on_the_cpu_trains_with_finite_losses(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    network, dtypes, losses = make_network(), set(), []
    network.segmentor.head.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
    network.refiner.correction.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
    before = {key: value.clone() for key, value in network.named_parameters()}
    trainer = make_trainer(network, make_batches(3), amp=True, amp_kwargs={"dtype": torch.bfloat16})
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].clone())
    )
    trainer.run()
    assert dtypes == {torch.bfloat16}
    assert len(losses) == 3 and torch.stack(losses).isfinite().all()
    assert trainer.state.output["pred"].dtype == torch.float32
    moved = [key for key, value in network.named_parameters() if not torch.equal(value, before[key])]
    assert {"segmentor.head.weight", "refiner.correction.weight"} <= set(moved)
    assert all(value.dtype == torch.float32 for value in network.parameters())


@pytest.mark.parametrize("max_grad_norm", [1.0, None])
def test_a_gradient_that_is_not_finite_is_named_and_no_weight_is_lost(
    max_grad_norm: float | None, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    """As a compiled backward pass may give it, of a loss that is finite."""
    network = make_network()
    before = {name: value.clone() for name, value in network.refiner.named_parameters()}
    weight = network.refiner.correction.weight
    weight.register_hook(lambda gradient: gradient * float("nan"))
    trainer = make_trainer(network, make_batches(2), max_grad_norm=max_grad_norm)
    with pytest.raises(ValueError, match="gradient of loss_refiner is nan in epoch 1, iteration 1.*lower the learning"):
        trainer.run()
    assert all(torch.equal(value, before[name]) for name, value in network.refiner.named_parameters())
