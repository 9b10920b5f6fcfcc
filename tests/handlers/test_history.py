"""One row per epoch, none twice."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events

from hidiff_monai.handlers import AlternateCollaborativeHandler, HistoryWriter
from hidiff_monai.handlers.history import COLUMNS


@pytest.fixture
def run(make_network: Callable, make_trainer: Callable, make_batches: Callable, tmp_path: Path) -> Callable[..., Any]:
    """Trains f for an epoch, then both; validates after every other epoch; the rates are set to 1 / epoch."""

    def train(max_epochs: int, first_epoch: int = 1) -> list[dict[str, list[float]]]:
        schedule, evaluator = AlternateCollaborativeHandler(1), Engine(lambda engine, batch: None)
        trainer = make_trainer(make_network(), make_batches(2, size=8), max_epochs, train_handlers=[schedule])
        losses: list[dict[str, list[float]]] = []

        def set_rates() -> None:
            losses.append({"loss_segmentor": [], "loss_refiner": []})
            for optimizer in (trainer.segmentor_optimizer, trainer.optimizer):
                optimizer.param_groups[0]["lr"] = 1e-3 / trainer.state.epoch

        def remember() -> None:
            for key, values in losses[-1].items():
                if key in trainer.state.output:
                    values.append(trainer.state.output[key].item())

        def validate() -> None:
            evaluator.run([0])

        def score() -> None:
            evaluator.state.metrics = {
                "val_dice_prior": 0.5,
                "val_dice_refined": 0.1 * trainer.state.epoch,
                "other": 1.0,
            }

        trainer.add_event_handler(Events.EPOCH_STARTED, set_rates)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, remember)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), validate)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, score)
        HistoryWriter(tmp_path / "history.csv", schedule, evaluator).attach(trainer)
        trainer.state.epoch, trainer.state.iteration = first_epoch - 1, 2 * (first_epoch - 1)
        trainer.run()
        return losses

    return train


def read(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_hold_epoch_means_rates_and_validation_where_there_was_one(run: Callable, tmp_path: Path) -> None:
    losses = run(2)
    first, second = read(tmp_path)
    assert tuple(first) == COLUMNS
    assert (first["epoch"], first["phase"], second["epoch"], second["phase"]) == ("1", "pretrain", "2", "alternate")
    assert first["loss_refiner"] == first["val_dice_prior"] == first["val_dice_refined"] == ""
    assert float(first["loss_segmentor"]) == pytest.approx(sum(losses[0]["loss_segmentor"]) / 2)
    assert float(second["loss_refiner"]) == pytest.approx(sum(losses[1]["loss_refiner"]) / 2)
    assert (float(second["val_dice_prior"]), float(second["val_dice_refined"])) == (0.5, 0.2)
    assert [float(row["lr_segmentor"]) for row in (first, second)] == [1e-3, 5e-4]


def test_the_rate_is_that_of_the_epoch_not_of_the_next(
    make_network: Callable, make_trainer: Callable, make_batches: Callable, tmp_path: Path
) -> None:
    schedule = AlternateCollaborativeHandler(0)
    trainer = make_trainer(make_network(), make_batches(1, size=8), train_handlers=[schedule])
    trainer.optimizer.param_groups[0]["lr"] = 0.25
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: trainer.optimizer.param_groups[0].update(lr=0.0))
    HistoryWriter(tmp_path / "history.csv", schedule, Engine(lambda engine, batch: None)).attach(trainer)
    trainer.run()
    assert read(tmp_path)[0]["lr_refiner"] == "0.25"


def test_a_resumed_run_keeps_earlier_rows_and_repeats_none(run: Callable, tmp_path: Path) -> None:
    run(3)
    earlier = read(tmp_path)
    run(4, first_epoch=3)
    rows = read(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[:2] == earlier[:2]


def test_a_fresh_run_replaces_the_old_history(run: Callable, tmp_path: Path) -> None:
    run(3)
    run(1)
    assert [row["epoch"] for row in read(tmp_path)] == ["1"]
