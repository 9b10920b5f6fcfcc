"""One row of figures per epoch."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from ignite.engine import Engine, Events

from hidiff_monai.engines import AlternateCollaborativeTrainer
from hidiff_monai.engines.distributed import average, is_first
from hidiff_monai.handlers.alternate_collaborative import AlternateCollaborativeHandler
from hidiff_monai.handlers.output import output_losses
from hidiff_monai.io import write_atomically

COLUMNS = (
    "epoch",
    "phase",
    "loss_segmentor",
    "loss_refiner",
    "lr_segmentor",
    "lr_refiner",
    "val_dice_prior",
    "val_dice_refined",
)


class HistoryWriter:
    """Writes ``history.csv``: losses (epoch means), learning rates and validation Dice, one row per epoch.

    A resumed run keeps the rows of the epochs it does not repeat. Of several processes the first one writes, with the
    means of all.

    Args:
        path: the file to write.
        schedule: says which phase an epoch belongs to.
        evaluator: the engine whose metrics *val_dice_prior* and *val_dice_refined* are taken, after it has run.

    Attributes:
        row: what was written last.
    """

    def __init__(self, path: str | Path, schedule: AlternateCollaborativeHandler, evaluator: Engine) -> None:
        self.path = Path(path)
        self.schedule = schedule
        self.evaluator = evaluator
        self.row: dict[str, object] = {}
        self._losses: dict[str, list[float]] = defaultdict(list)
        self._metrics: dict[str, float] = {}
        self._rates: dict[str, float] = {}

    def attach(self, engine: AlternateCollaborativeTrainer) -> None:
        """Registers the handler; attach it after the validation."""
        self.evaluator.add_event_handler(Events.COMPLETED, self._remember_metrics)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._remember_losses)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _begin(self, engine: AlternateCollaborativeTrainer) -> None:
        self._losses.clear()
        self._metrics = {}
        self._rates = {
            "lr_segmentor": engine.segmentor_optimizer.param_groups[0]["lr"],
            "lr_refiner": engine.optimizer.param_groups[0]["lr"],
        }

    def _remember_losses(self, engine: Engine) -> None:
        for key, value in output_losses(engine.state.output).items():
            self._losses[key].append(value)

    def _remember_metrics(self, evaluator: Engine) -> None:
        self._metrics = {key: float(value) for key, value in evaluator.state.metrics.items() if key in COLUMNS}

    def _write(self, engine: AlternateCollaborativeTrainer) -> None:
        losses = average({key: sum(values) / len(values) for key, values in self._losses.items()})
        if not is_first():
            return
        self.row = {
            "epoch": engine.state.epoch,
            "phase": self.schedule.phase(engine.state.epoch),
            **self._rates,
            **losses,
            **self._metrics,
        }
        rows = [earlier for earlier in self._read() if int(earlier["epoch"]) < engine.state.epoch]
        with write_atomically(self.path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows([*rows, self.row])

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            return list(csv.DictReader(file))
