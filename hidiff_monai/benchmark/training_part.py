"""A training step as the trainer does it, against a plain implementation with two passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hidiff_monai.benchmark.heap import leave_heap_alone, tune_heap
from hidiff_monai.benchmark.settings import Settings, Unit, count
from hidiff_monai.benchmark.timing import interleave, thread_count
from hidiff_monai.benchmark.training import training_steps

PLAIN, TRAINER = "plain two-pass", "trainer"
PLAIN_TUNED = "plain two-pass, freed memory kept"
BATCH = 4

Call = Callable[[], object]


def plan_training(settings: Settings) -> Iterator[Unit]:
    """Two sizes that fit a workstation: a quarter of the width at half the edge, and an eighth at the whole of it."""
    sizes = [(settings.width // 4, settings.image_size // 2), (settings.width // 8, settings.image_size)]
    for width, image_size in sizes[:1] if settings.is_quick else sizes:
        width, image_size = max(4, width - width % 4), max(64, image_size)
        key = f"training/width {width}, {image_size}^2"
        yield Unit(key, partial(measure_training, settings, width, image_size))


def measure_training(settings: Settings, width: int, image_size: int) -> dict[str, Any]:
    """A `Measurement` of training steps, plain; ``speedups`` are over the plain step."""
    steps = training_steps(width, image_size, BATCH)
    candidates: dict[str, Call] = {PLAIN: steps[PLAIN], PLAIN_TUNED: steps[PLAIN], **steps}
    prepare = {name: partial(_settle, call, name != PLAIN) for name, call in candidates.items()}
    title = f"width {width}, {BATCH} crops of {image_size}^2, {count(settings.most_threads, 'thread')}"
    with thread_count(settings.most_threads):
        measured = interleave(candidates, settings.limits, f"training, {title}", prepare)
    return {
        "part": "training",
        "title": title,
        "threads": settings.most_threads,
        "width": width,
        "image_size": image_size,
        "batch": BATCH,
        "speedups": {name: measured.speedup(name, PLAIN) for name in measured.names if name != PLAIN},
        "speedup_spreads": {name: measured.speedup_spread(name, PLAIN) for name in measured.names if name != PLAIN},
        **measured.to_dict(),
    }


def _settle(call: Call, keeps_freed: bool) -> None:
    """The heap as the candidate wants it, and a step that fills its memory anew."""
    tune_heap() if keeps_freed else leave_heap_alone()
    call()
