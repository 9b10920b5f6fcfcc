"""The running average follows each network over its own steps."""

from collections.abc import Callable

import torch
from ignite.engine import Events

from hidiff_monai.handlers import AlternateCollaborativeHandler, ResumableEMA

MOMENTUM = 0.1


def test_a_network_that_rests_keeps_its_average(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    network = make_network()
    handlers = [AlternateCollaborativeHandler(pretrain_epochs=1, segmentor_every=4)]
    trainer = make_trainer(network, make_batches(8), max_epochs=2, train_handlers=handlers)
    ema = ResumableEMA(network, momentum=MOMENTUM, handle_buffers="update")
    ema.attach(trainer)
    expected = {key: value.clone() for key, value in network.state_dict().items() if value.is_floating_point()}
    stepped = {"segmentor": 0, "refiner": 0}

    @trainer.on(Events.ITERATION_COMPLETED)
    def average_by_hand() -> None:
        plan = trainer.plan
        for part, is_trained in (("segmentor", plan.updates_segmentor), ("refiner", plan.updates_refiner)):
            stepped[part] += is_trained
            for key in (key for key in expected if is_trained and key.startswith(part)):
                expected[key].lerp_(network.state_dict()[key], MOMENTUM)

    trainer.run()
    assert stepped == {"segmentor": 8 + 2, "refiner": 8}
    averaged = ema.ema_model.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(averaged[key], value, rtol=1e-4, atol=1e-6)
