"""Whether a bundle's loader keeps up with its training step, on the machine at hand."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from tqdm import tqdm

from hidiff_monai.engines import AlternateCollaborativeTrainer
from hidiff_monai.handlers import AlternateCollaborativeHandler, LossProgressBar
from hidiff_monai.io import require_known_key

# one epoch of either phase, whole: the refiner's loss enters the segmentor's objective at once
TWO_PHASES = {
    "pretrain_epochs": 1,
    "max_epochs": 2,
    "alternation#collaboration_start": None,
    "alternation#segmentor_epochs": None,
}
PHASES = ("segmentor alone", "alternating")


@dataclass(frozen=True)
class LoaderBenchmark:
    """How fast mini-batches are loaded and trained on, and the largest resident memory so far.

    Attributes:
        num_batches: mini-batches of the epoch that was loaded.
        num_workers: processes that loaded them; 0 is the training's own process.
        loader_s: seconds a mini-batch.
        step_s: seconds a mini-batch of each of `PHASES`.
        loading_gib: this process after the epoch was loaded.
        worker_gib: the largest worker, what it shares with this process included; 0 without workers.
        training_gib: this process after the training steps.
    """

    num_batches: int
    num_workers: int
    loader_s: float
    step_s: dict[str, float]
    loading_gib: float
    worker_gib: float
    training_gib: float

    def waiting_share(self, phase: str) -> float:
        """Share in [0, 1] of a phase's time that goes by waiting for data.

        Without workers every mini-batch is loaded before it is trained on; workers load it meanwhile, and here nobody
        takes the processor from them.
        """
        step_s = self.step_s[phase]
        if self.num_workers == 0:
            return self.loader_s / (self.loader_s + step_s)
        return max(0.0, 1 - step_s / self.loader_s)

    def format(self) -> str:
        """A line each for the loader, the phases and the memory."""
        lines = [
            f"{'':<16} mini-batches a second  loader is faster  waiting for data",
            f"{'loader':<16} {1 / self.loader_s:22.3f}  ({self.num_batches} mini-batches, {self.num_workers} workers)",
        ]
        for phase, step_s in self.step_s.items():
            ratio, share = step_s / self.loader_s, 100 * self.waiting_share(phase)
            lines.append(f"{phase:<16} {1 / step_s:22.3f} {ratio:15.1f} x {share:15.1f} %")
        workers = f", each worker up to {self.worker_gib:.2f} GiB" if self.num_workers else ""
        memory = f"{self.loading_gib:.2f} GiB after loading{workers}, {self.training_gib:.2f} GiB after training"
        return "\n".join([*lines, f"peak resident memory: {memory}"])


def benchmark_loader(config: str | Sequence[str], overrides: dict[str, Any], steps: int = 8) -> LoaderBenchmark:
    """Loads one epoch of `train#dataloader`, then times training steps of both phases on its first mini-batches.

    Nothing is written and nothing is resumed. A step more is run in each phase, to warm up.

    Args:
        config: a bundle's train.json; or several files, of which later ones override.
        overrides: key to value, as on the command line of `monai.bundle`.
        steps: mini-batches that are timed in each phase, at least 1; a multiple of `segmentor_every` and
            `refiner_every` gives both networks their share.

    Raises:
        ValueError: if a key is unknown, `steps` is below 1, or the data are not as `load_slices` or `load_datalist`
            expect.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected 1 or more")
    parser = ConfigParser()
    parser.read_config([config] if isinstance(config, str | Path) else list(config))
    for name in overrides:
        require_known_key(name, parser.get())
    parser.update({**overrides, **TWO_PHASES})
    set_determinism(parser["seed"])
    loader = parser.get_parsed_content("train#dataloader")
    start = perf_counter()
    batches: list[dict[str, Any]] = []
    for batch in tqdm(loader, desc="Loading one epoch", unit="mini-batch"):
        batches += [batch] if len(batches) <= steps else []
    loader_s = (perf_counter() - start) / len(loader)
    loading_gib = _peak_gib(resource.RUSAGE_SELF)
    trainer, alternation = (parser.get_parsed_content(key) for key in ("train#trainer", "alternation"))
    step_s = _time_steps(trainer, alternation, list(islice(cycle(batches), steps + 1)))
    return LoaderBenchmark(
        num_batches=len(loader),
        num_workers=loader.num_workers,
        loader_s=loader_s,
        step_s=step_s,
        loading_gib=loading_gib,
        worker_gib=_peak_gib(resource.RUSAGE_CHILDREN) if loader.num_workers else 0.0,
        training_gib=_peak_gib(resource.RUSAGE_SELF),
    )


def _time_steps(
    trainer: AlternateCollaborativeTrainer, alternation: AlternateCollaborativeHandler, batches: list[dict[str, Any]]
) -> dict[str, float]:
    """Mean seconds a mini-batch in each phase, an epoch of these mini-batches each, the first of them left out."""
    finished: list[float] = []

    def note_time() -> None:
        if trainer.state.device.type == "cuda":
            torch.cuda.synchronize(trainer.state.device)
        finished.append(perf_counter())

    alternation.attach(trainer)
    LossProgressBar().attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, note_time)
    trainer.data_loader, trainer.state.epoch_length = batches, len(batches)
    trainer.run()
    number = len(batches)
    epochs = (finished[:number], finished[number:])
    return {phase: (times[-1] - times[0]) / (number - 1) for phase, times in zip(PHASES, epochs, strict=True)}


def _peak_gib(who: int) -> float:
    """Largest resident memory so far of this process, or of the largest child that has ended."""
    units_per_gib = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    return resource.getrusage(who).ru_maxrss / units_per_gib
