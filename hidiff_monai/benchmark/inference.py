"""The whole inference, image in and mask out, with the segmentor: as trained, folded and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch

from hidiff_monai.benchmark.forms import CLEAN, EMULATION, PACKED, Form, make_form
from hidiff_monai.benchmark.models import NUM_TIMESTEPS, make_hidiff, make_inputs, make_segmentor
from hidiff_monai.benchmark.settings import Settings, Unit, count
from hidiff_monai.benchmark.timing import interleave, thread_count
from hidiff_monai.networks import HiDiff

SEGMENTOR = "segmentor alone"
WHOLE = {"compiled": PACKED, "clean fp32": CLEAN, "eager": EMULATION}


def plan_inference(settings: Settings) -> Iterator[Unit]:
    """One image with every number of threads."""
    for threads in settings.threads:
        yield Unit(f"inference/{threads} threads", partial(measure_inference, settings, threads))


def make_network(name: str, width: int, num_inference_steps: int = NUM_TIMESTEPS) -> tuple[HiDiff, Form]:
    """The joint module in one of the forms `WHOLE`, and its refiner's form."""
    form = make_form(WHOLE[name], width)
    return make_hidiff(form.refiner, make_segmentor_once(width), num_inference_steps), form


@cache
def make_segmentor_once(width: int) -> torch.nn.Module:
    """The segmentor that all forms share."""
    return make_segmentor(width)


def measure_inference(settings: Settings, threads: int) -> dict[str, Any]:
    """A `Measurement` of whole inferences, plain, with the segmentor's share of the compiled one."""
    image = make_inputs(1, settings.image_size, settings.width).image
    candidates: dict[str, Callable[[], object]] = {}
    prepare: dict[str, Callable[[], object]] = {}
    for name in WHOLE:
        network, form = make_network(name, settings.width)
        short, _ = make_network(name, settings.width, num_inference_steps=1)
        candidates[name] = partial(_infer, network, image)
        prepare[name] = partial(_settle, form, short, image)
    segmentor = make_segmentor_once(settings.width)
    candidates[SEGMENTOR] = partial(_infer, segmentor, image)
    prepare[SEGMENTOR] = partial(_settle, make_form(PACKED, settings.width), segmentor, image)
    with thread_count(threads):
        measured = interleave(candidates, settings.limits, f"whole inference, {count(threads, 'thread')}", prepare)
    return {
        "part": "inference",
        "threads": threads,
        "image_size": settings.image_size,
        "width": settings.width,
        "steps": NUM_TIMESTEPS,
        "speedups": {name: measured.speedup("compiled", name) for name in WHOLE if name != "compiled"},
        "segmentor_share": measured.speedup("compiled", SEGMENTOR),
        **measured.to_dict(),
    }


@torch.no_grad()
def _infer(network: torch.nn.Module, image: torch.Tensor) -> object:
    return network(image)


def _settle(form: Form, network: torch.nn.Module, image: torch.Tensor) -> None:
    form.settle()
    _infer(network, image)
