"""Which network trains in which mini-batch."""

from collections.abc import Callable

import pytest
import torch
from ignite.engine import Events

from hidiff_monai.engines import UpdatePlan
from hidiff_monai.handlers import AlternateCollaborativeHandler

PRETRAINING = UpdatePlan(updates_segmentor=True, updates_refiner=False, lambda_diff=0.0)


@pytest.mark.parametrize(
    ("epoch", "window", "plan"),
    [
        (1, 0, PRETRAINING),
        (2, 1, PRETRAINING),
        (3, 0, UpdatePlan(True, True, 0.0)),  # alternating, not yet collaborating
        (4, 1, UpdatePlan(False, True, 0.0)),
        (5, 0, UpdatePlan(True, True, 0.5)),
        (5, 1, UpdatePlan(False, True, 0.5)),
        (5, 2, UpdatePlan(False, True, 0.5)),
        (9, 3, UpdatePlan(True, True, 0.5)),
    ],
)
def test_plan(epoch: int, window: int, plan: UpdatePlan) -> None:
    handler = AlternateCollaborativeHandler(2, collaboration_start=4, lambda_diff=0.5, segmentor_every=3)
    assert handler.plan(epoch, window) == plan


def test_by_default_collaboration_begins_after_pretraining() -> None:
    handler = AlternateCollaborativeHandler(1, refiner_every=2)
    assert handler.plan(1, 0) == PRETRAINING
    assert handler.plan(2, 0) == UpdatePlan(True, True, 1.0)
    assert handler.plan(2, 1) == UpdatePlan(True, False, 1.0)
    assert [handler.phase(epoch) for epoch in (1, 2)] == ["pretrain", "alternate"]


@pytest.mark.parametrize("arguments", [{"pretrain_epochs": -1}, {"refiner_every": 0}, {"segmentor_every": 0}])
def test_numbers_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 0, 1 and 1"):
        AlternateCollaborativeHandler(**{"pretrain_epochs": 1, **arguments})


def test_the_refiner_goes_on_alone_once_the_segmentor_rests() -> None:
    handler = AlternateCollaborativeHandler(1, segmentor_every=2, segmentor_epochs=3)
    assert [handler.phase(epoch) for epoch in (1, 2, 3, 4, 5)] == ["pretrain", "alternate", "alternate"] + [
        "refine"
    ] * 2
    assert handler.plan(3, 0) == UpdatePlan(True, True, 1.0)
    assert handler.plan(4, 0) == handler.plan(4, 1) == UpdatePlan(updates_segmentor=False, updates_refiner=True)
    assert [AlternateCollaborativeHandler(2, segmentor_epochs=2).phase(epoch) for epoch in (2, 3)] == [
        "pretrain",
        "refine",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segmentor_epochs": 1}, "segmentor_epochs is 1, pretrain_epochs 2; expected as many or more"),
        ({"segmentor_epochs": 3, "refiner_every": 2}, "segmentor_epochs is 3 and refiner_every 2; expected refiner_ev"),
    ],
)
def test_a_rest_of_the_segmentor_that_cannot_be_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlternateCollaborativeHandler(2, **arguments)


def test_mini_batches_that_train_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="refiner_every is 2 and segmentor_every 3; expected 1 for at least one"):
        AlternateCollaborativeHandler(0, refiner_every=2, segmentor_every=3)


def test_a_segmentor_that_takes_no_step_stays_as_it_is(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    handler = AlternateCollaborativeHandler(0, segmentor_epochs=0)
    make_trainer(network, make_batches(3, batch_size=1, size=8), 2, train_handlers=[handler]).run()
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"refiner"}


def test_trainer_follows_the_plan_by_accumulation_window(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    handler = AlternateCollaborativeHandler(1, segmentor_every=2)
    batches = make_batches(3, batch_size=1, size=8)
    trainer = make_trainer(make_network(), batches, 2, train_handlers=[handler], accumulation_steps=2)
    trained: list[set[str]] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: trained.append({key for key in engine.state.output if key.startswith("loss_")}),
    )
    trainer.run()
    both = {"loss_segmentor", "loss_refiner"}
    assert trained == [{"loss_segmentor"}] * 3 + [both, both, {"loss_refiner"}]
