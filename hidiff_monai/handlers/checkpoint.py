"""Checkpoints that survive: written atomically, loaded with ``weights_only=True``, resumed exactly."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from monai.engines import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hidiff_monai.engines.distributed import is_first
from hidiff_monai.io import check_architecture, read_checkpoint, require_writable, save_checkpoint
from hidiff_monai.io.files import remove_unfinished
from hidiff_monai.io.locks import hold_lock, release_lock

ORIGIN = "resumed_from"
LOCK = ".lock"
_STATE = re.compile(r"resume_\d+\.pt")


class BestModelSaver:
    """Saves a network as a flat state dict whenever the evaluator's metric is as good as the best so far, or each time.

    A network is also saved where there is none yet, whatever its score, as after a run was taken up in another folder.
    The new file replaces the old one in a single step; MONAI's and ignite's savers remove the old one first. Of several
    processes all keep the score and the first one writes.

    Args:
        path: the file, for example ``models/model.pt``.
        network: the network to save.
        metric: name of the evaluator's metric; higher is better.
        keeps_newest: saves after every validation, where the metric cannot choose.
    """

    def __init__(self, path: str | Path, network: nn.Module, metric: str, keeps_newest: bool = False) -> None:
        self.path = Path(path)
        self.network = network
        self.metric = metric
        self.keeps_newest = keeps_newest
        self.best = float("-inf")
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        """Registers the handler with the evaluator."""
        require_writable(self.path.parent)
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compares and saves."""
        score = float(engine.state.metrics[self.metric])
        # Of equals the newer: labels without foreground score 0 every time. A run taken up elsewhere has no model yet.
        is_best = score >= self.best or not self.path.exists()
        if is_best and not math.isnan(score):
            self.best = score
        if is_first() and (is_best or self.keeps_newest):
            save_checkpoint(self.network.state_dict(), self.path)
            which = "newest, not chosen:" if self.keeps_newest else "best so far,"
            self.logger.info(f"{self.metric} {score:.4f}, {which} saved {self.path}")

    def forget(self) -> None:
        """Lets the next score count as the best, where earlier ones no longer compare."""
        self.best = float("-inf")

    def state_dict(self) -> dict[str, float]:
        """The best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes up an earlier best score."""
        self.best = state["best"]


class ResumableTraining:
    """Saves the whole state of a training after every few epochs, and takes it up again when the run is restarted.

    Of several processes the first one saves and all take up the same state.

    Args:
        folder: where the states lie, as ``resume_<epoch>.pt``; the two newest are kept.
        objects: everything that has a state, by name: network, optimizers, schedules, EMA, savers. The trainer itself
            and, under mixed precision, its gradient scaler are added.
        interval: epochs between two states.
        resume_from: the file to take up; None means the newest in ``folder``, or a fresh start where there is none.
            Once this run has gone on from it, the newest is taken up, so that the same call goes on.
            States of later epochs in ``folder`` go when the next one is saved.
        settings: what must be the same when a run is taken up, by name: seed, data, and the like.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: dict[str, Any],
        interval: int = 1,
        resume_from: str | Path | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.settings = settings or {}
        self.folder = Path(folder)
        self.objects = objects
        self.interval = interval
        self.resume_from = None if resume_from is None else Path(resume_from)
        self._origin: str | None = None  # the other folder's state from which this run once went on
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Trainer) -> None:
        """Registers the handler; attach it last, after everything that changes a state."""
        require_writable(self.folder)
        engine.add_event_handler(Events.STARTED, self._claim)
        engine.add_event_handler(Events.STARTED, self._resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._save)
        engine.add_event_handler(Events.COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, lambda: release_lock(self.folder / LOCK))

    def states(self) -> list[Path]:
        """The saved states, oldest first."""
        files = [file for file in self.folder.glob("resume_*.pt") if _STATE.fullmatch(file.name)]
        return sorted(files, key=_epoch_of)

    def _save(self, engine: Trainer) -> None:
        epoch, epoch_length = engine.state.epoch, engine.state.epoch_length
        is_whole = engine.state.iteration == epoch * epoch_length  # not terminated in the middle of an epoch
        if not (is_whole and is_first()):
            return
        state = {name: item.state_dict() for name, item in self.objects.items()}
        state["trainer"] = {"epoch": epoch, "epoch_length": epoch_length}
        if self.settings:
            state["settings"] = self.settings
        if self._origin is not None:
            state[ORIGIN] = self._origin
        if engine.scaler is not None:
            state["scaler"] = engine.scaler.state_dict()
        save_checkpoint(state, self.folder / f"resume_{epoch}.pt")
        kept = [path for path in self.states() if _epoch_of(path) <= epoch][-2:]
        for outdated in set(self.states()) - set(kept):
            outdated.unlink(missing_ok=True)

    def _claim(self, _: Engine) -> None:
        """One training a folder, of as many processes as it has: two would remove each other's states."""
        if not is_first():
            return
        try:
            is_alone = hold_lock(self.folder / LOCK)
        except BlockingIOError as error:
            raise ValueError(
                f"{self.folder}: another training writes there; expected one a folder: wait for it, or name another "
                "output_dir"
            ) from error
        if is_alone:
            remove_unfinished(self.folder, "resume_*")

    def _resume(self, engine: Trainer) -> None:
        path = self._choose()
        if path is None or engine.state.epoch > 0:  # run() called again goes on from where it stands
            return
        state = self._read(path)
        self._check(engine, path, state)
        configured = [_configured(item) for item in self.objects.values()]
        try:
            Checkpoint.load_objects(self.objects, {name: state[name] for name in self.objects})
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{path} does not fit this configuration: {error}\nuse the configuration it was trained with, or "
                f"{self._mend(path)}"
            ) from error
        self._origin = state.get(ORIGIN) if self._is_own(path) else str(path.resolve())
        for item, own in zip(self.objects.values(), configured, strict=True):
            _configure(item, own)
        for schedule in self.objects.values():
            if isinstance(schedule, LambdaLR):
                _follow(schedule)
        if engine.scaler is not None and state.get("scaler"):  # empty where amp was off
            engine.scaler.load_state_dict(state["scaler"])
        engine.state.epoch = state["trainer"]["epoch"]
        engine.state.iteration = engine.state.epoch * engine.state.epoch_length
        self.logger.info(f"resumed from {path}, after epoch {engine.state.epoch} of {engine.state.max_epochs}")

    def _choose(self) -> Path | None:
        """The state to take up: the given one, unless this very run has gone on from it already."""
        newest, given = next(reversed(self.states()), None), self.resume_from
        if given is None or newest is None:
            return given or newest
        if self._is_own(given):  # back to an earlier state of this run, as long as it is kept
            is_state = _STATE.fullmatch(given.name) is not None
            is_past = is_state and not given.is_file() and _epoch_of(given) < _epoch_of(newest)
        else:
            is_past = self._read(newest).get(ORIGIN) == str(given.resolve())
        if is_past:
            self.logger.warning(f"resume_from {given} was taken up before: this run goes on from {newest}")
        return newest if is_past else given

    def _is_own(self, path: Path) -> bool:
        return path.resolve().parent == self.folder.resolve()

    def _mend(self, path: Path) -> str:
        """What lets a training begin anew that cannot go on from a state."""
        return "use another output_dir" if self._is_own(path) else "leave out resume_from"

    def _check(self, engine: Trainer, path: Path, state: dict[str, Any]) -> None:
        missing = sorted({*self.objects, "trainer"} - set(state))
        if missing:
            raise ValueError(f"{path} holds no state of {missing}; expected one saved by this configuration")
        epoch_length = state["trainer"]["epoch_length"]
        if epoch_length != engine.state.epoch_length:
            raise ValueError(
                f"{path} comes from a run with {epoch_length} mini-batches an epoch, this one has "
                f"{engine.state.epoch_length}: use the same data, batch size and number of processes, or "
                f"{self._mend(path)}"
            )
        for name, value in state.get("settings", {}).items():
            if name in self.settings and self.settings[name] != value:
                raise ValueError(
                    f"{path} comes from a run with {name} {value!r}, this one has {self.settings[name]!r}: "
                    f"set it as it was, or {self._mend(path)}"
                )
        for name, item in self.objects.items():
            if isinstance(item, nn.Module):
                check_architecture(item, state[name], f"{path} ({name})")

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return read_checkpoint(path)
        except ValueError as error:
            good = next(filter(_is_readable, (other for other in reversed(self.states()) if other != path)), None)
            if good is None:
                raise
            raise ValueError(f"{error}; the last good one is {good}: pass it as resume_from") from error


def _configured(item: Any) -> list[Any]:
    """What the configuration says of an optimizer or a schedule, which its saved state says too."""
    if isinstance(item, LambdaLR):
        return [*item.base_lrs]
    groups = item.param_groups if isinstance(item, Optimizer) else []
    return [{key: value for key, value in group.items() if key not in ("params", "lr")} for group in groups]


def _configure(item: Any, configured: list[Any]) -> None:
    """Sets what `_configured` has kept."""
    if isinstance(item, LambdaLR):
        item.base_lrs = configured
    elif isinstance(item, Optimizer):
        for group, own in zip(item.param_groups, configured, strict=True):
            group.update(own)


def _follow(schedule: LambdaLR) -> None:
    """Sets the rates of this configuration for the epoch to come, not those that the optimizer was saved with."""
    rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, base, factor in rates:
        group["lr"] = base * factor(schedule.last_epoch)


def _epoch_of(path: Path) -> int:
    return int(path.stem.removeprefix("resume_"))


def _is_readable(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except ValueError:
        return False
    return True
