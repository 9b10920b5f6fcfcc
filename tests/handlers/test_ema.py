"""The running average of a refiner that begins late follows it, instead of holding on to where it began."""

from collections.abc import Callable

import pytest
import torch
from ignite.engine import Events

from hidiff_monai.handlers import AlternateCollaborativeHandler, ResumableEMA

MOMENTUM, FIRST, WARMUP = 0.01, 0.5, 6


@pytest.mark.parametrize("pretrain_epochs", [0, 2])
def test_each_network_warms_up_from_its_own_first_step(
    pretrain_epochs: int, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    network = make_network()
    handlers = [AlternateCollaborativeHandler(pretrain_epochs)]
    trainer = make_trainer(network, make_batches(4), max_epochs=4, train_handlers=handlers)
    ema = ResumableEMA(network, MOMENTUM, FIRST, WARMUP, handle_buffers="update")
    ema.attach(trainer, name="ema_momentum", pretrain_epochs=pretrain_epochs)
    expected = {key: value.clone() for key, value in network.state_dict().items() if value.is_floating_point()}
    steps = {"segmentor": 0, "refiner": 0}

    @trainer.on(Events.ITERATION_COMPLETED)
    def average_by_hand() -> None:
        is_trained = {"segmentor": True, "refiner": trainer.state.epoch > pretrain_epochs}
        for part in (part for part in steps if is_trained[part]):
            momentum = max(MOMENTUM, FIRST - (FIRST - MOMENTUM) * steps[part] / (WARMUP - 1))
            steps[part] += 1
            for key in (key for key in expected if key.startswith(part)):
                expected[key].lerp_(network.state_dict()[key], momentum)

    trainer.run()
    assert steps == {"segmentor": 16, "refiner": 16 - 4 * pretrain_epochs}
    averaged = ema.ema_model.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(averaged[key], value, rtol=1e-4, atol=1e-6)


def test_what_no_state_dict_holds_is_the_networks(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    """Averaging a constant moves its last bits: the average that is validated would not be the one that is saved."""
    network = make_network()
    frequencies = network.refiner.time_embedding.frequencies.uniform_().clone()
    trainer = make_trainer(network, make_batches(4), max_epochs=8)
    ema = ResumableEMA(network, MOMENTUM, FIRST, WARMUP, handle_buffers="update")
    ema.attach(trainer, name="ema_momentum")
    trainer.run()
    assert torch.equal(ema.ema_model.refiner.time_embedding.frequencies, frequencies)
