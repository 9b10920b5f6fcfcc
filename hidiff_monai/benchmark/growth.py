"""How time and memory grow with the size of the image and with the number of samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from hidiff_monai.benchmark.forms import Chain, make_form, take_turns
from hidiff_monai.benchmark.inference import WHOLE
from hidiff_monai.benchmark.memory import GIB, Case, free_gib, measure_peak
from hidiff_monai.benchmark.models import make_inputs
from hidiff_monai.benchmark.settings import Settings, Unit, count
from hidiff_monai.benchmark.timing import interleave, thread_count

SHARE = 0.8  # of the free memory, that a form may need
MAPS = {"compiled": 4, "clean fp32": 12, "eager": 22}  # float32, at full resolution, alive at once: measured, and some


def plan_growth(settings: Settings) -> Iterator[Unit]:
    """Image sizes with one sample, then numbers of samples at the image size asked for."""
    cases = [(size, 1) for size in settings.growth_sizes]
    cases += [(settings.image_size, number) for number in settings.growth_samples]
    for size, samples in dict.fromkeys(cases):
        yield Unit(f"growth/{size}^2, {samples} samples", partial(measure_growth, settings, size, samples))


def measure_growth(settings: Settings, image_size: int, num_samples: int) -> dict[str, Any]:
    """Peak memory of a whole inference of each form, and a `Measurement` of one step of the refiner, plain.

    Forms without room for them are named under "skipped"; where that is all of them, there are no "candidates".
    """
    limit_gib = settings.memory_limit_gib or SHARE * (free_gib() or float("inf"))
    memory: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in WHOLE:
        guess_gib = guess_peak_gib(name, settings.width, image_size, num_samples)
        if guess_gib > limit_gib:
            skipped[name] = f"needs about {guess_gib:.1f} GiB, allowed are {limit_gib:.1f}"
            continue
        case = Case(name, settings.width, image_size, num_samples, settings.most_threads)
        memory[name] = asdict(measure_peak(case))
    facts = {
        "part": "growth",
        "image_size": image_size,
        "num_samples": num_samples,
        "threads": settings.most_threads,
        "width": settings.width,
        "memory": memory,
        "skipped": skipped,
    }
    if not memory:
        return facts
    inputs = make_inputs(1, image_size, settings.width)
    with thread_count(settings.most_threads):
        chains = {name: Chain(make_form(WHOLE[name], settings.width), inputs, num_samples) for name in memory}
        candidates, prepare = take_turns(chains, 1)
        measured = interleave(candidates, settings.limits, f"{image_size}^2, {count(num_samples, 'sample')}", prepare)
    return {**facts, **measured.to_dict()}


def guess_peak_gib(name: str, width: int, image_size: int, num_samples: int) -> float:
    """An upper guess of what a form needs, in GiB."""
    return 1 + MAPS[name] * 4 * width * image_size**2 * num_samples / GIB
