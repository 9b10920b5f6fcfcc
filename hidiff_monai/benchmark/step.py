"""One step of the refiner and the whole reverse chain, packed and in every form it is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from hidiff_monai.benchmark.forms import Chain, available_forms, make_form, take_turns
from hidiff_monai.benchmark.models import NUM_TIMESTEPS, make_inputs
from hidiff_monai.benchmark.settings import Settings, Unit, count
from hidiff_monai.benchmark.size import measure_size
from hidiff_monai.benchmark.timing import interleave, thread_count

PACKED = "packed"


def plan_steps(settings: Settings) -> Iterator[Unit]:
    """What one step and T steps cost, in operations and in seconds."""
    yield Unit("step/size", partial(measure_size, settings))
    for steps in (1, NUM_TIMESTEPS):
        for batch in settings.batches:
            for threads in settings.threads:
                key = f"step/{steps} steps/batch {batch}/{threads} threads"
                yield Unit(key, partial(measure_chain, settings, steps, batch, threads))


def measure_chain(settings: Settings, steps: int, batch: int, threads: int) -> dict[str, Any]:
    """A `Measurement` of so many steps of the reverse chain, plain; the condition is there already."""
    inputs = make_inputs(batch, settings.image_size, settings.width)
    with thread_count(threads):
        chains = {name: Chain(make_form(name, settings.width), inputs) for name in available_forms()}
        candidates, prepare = take_turns(chains, steps)
        title = f"{count(steps, 'step')}, batch {batch}, {count(threads, 'thread')}"
        measured = interleave(candidates, settings.limits, title, prepare)
    return {
        "part": "step",
        "title": title,
        "steps": steps,
        "batch": batch,
        "threads": threads,
        "image_size": settings.image_size,
        "width": settings.width,
        "speedups": {name: measured.speedup(PACKED, name) for name in measured.names if name != PACKED},
        "speedup_spreads": {name: measured.speedup_spread(PACKED, name) for name in measured.names if name != PACKED},
        **measured.to_dict(),
    }
