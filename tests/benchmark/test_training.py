"""The trainer against Algorithm 1 written down plainly: equal losses, gradients and weights."""

from collections.abc import Callable

import pytest
import torch
from ignite.engine import Events

from hidiff_monai.benchmark.training import BFLOAT16, make_crops, make_optimizers, make_trainable, training_steps
from hidiff_monai.benchmark.two_pass import TwoPassStep
from hidiff_monai.networks import HiDiff

STEPS = 3


def train_both(
    network: HiDiff, twin: HiDiff, make_trainer: Callable, batches: list[dict[str, torch.Tensor]]
) -> tuple[list[float], list[float]]:
    """Losses of g and f in turn, by the trainer and by the plain step; gradients and weights stay in the networks."""
    losses: tuple[list[float], list[float]] = ([], [])
    optimizers = [torch.optim.SGD(part.parameters(), 0.1) for part in (network.segmentor, network.refiner)]
    trainer = make_trainer(
        network, batches, segmentor_optimizer=optimizers[0], refiner_optimizer=optimizers[1], max_epochs=1
    )
    step = TwoPassStep(twin, *(torch.optim.SGD(part.parameters(), 0.1) for part in (twin.segmentor, twin.refiner)))
    keys = ("loss_refiner", "loss_segmentor")
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses[0].extend(engine.state.output[key].item() for key in keys)
    )
    torch.manual_seed(5)
    trainer.run()
    torch.manual_seed(5)
    for batch in batches:
        found = step(batch["image"], batch["label"])
        losses[1].extend(found[key].item() for key in keys)
    return losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_trainer_gives_what_the_plain_step_gives(
    dtype: torch.dtype, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    """Real-valued: rounding flips signs of a binarized refiner, which the next test takes in float64."""
    network, twin = (make_network(binarized=dtype == torch.float64).to(dtype) for _ in range(2))
    batches = [{key: value.to(dtype) for key, value in batch.items()} for batch in make_batches(STEPS)]
    ours, plain = train_both(network, twin, make_trainer, batches)
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(plain), **tolerance)
    assert len(ours) == 2 * STEPS
    gradients = {name: value.grad for name, value in network.segmentor.named_parameters()}
    for name, parameter in twin.segmentor.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, **tolerance)
    expected = {name: value for name, value in twin.state_dict().items() if "num_batches_tracked" not in name}
    found = network.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_every_step_trains_a_network_of_its_own() -> None:
    steps = training_steps(width=4, image_size=64, batch=2)
    assert list(steps) == ["plain two-pass", "trainer", "trainer, bf16"]
    for step in steps.values():
        step()
        step()


def test_equal_arguments_give_equal_networks() -> None:
    first, second = make_trainable(4), make_trainable(4)
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters(), strict=True))
    assert len(make_optimizers(first)) == 2 and BFLOAT16["amp"]
    images, labels = make_crops(64, 2)
    assert images.shape == (2, 3, 64, 64) and labels.shape == (2, 1, 64, 64) and set(labels.unique().tolist()) == {0, 1}
