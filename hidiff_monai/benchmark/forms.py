"""The forms in which a refiner runs: packed, and those it is compared with, each on the heap that it is meant for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hidiff_monai import ops
from hidiff_monai.benchmark.heap import leave_heap_alone, tune_heap
from hidiff_monai.benchmark.models import NUM_TIMESTEPS, Inputs, make_hidiff, make_refiner
from hidiff_monai.networks.folded_refiner import FoldedRefiner

PACKED, PACKED_AVX2 = "packed", "packed, AVX2"
CLEAN, TWIN, EMULATION = "clean fp32", "real-valued twin", "straight-through emulation"
FORMS = (PACKED, PACKED_AVX2, CLEAN, TWIN, EMULATION)
MEANING = {
    PACKED: "bits, XNOR and popcount, one fused operator a layer",
    PACKED_AVX2: "the same without AVX-512",
    CLEAN: "the same network in float32: signs and BatchNorm folded, channels last, freed memory kept",
    TWIN: "the same sizes without binarization, folded likewise",
    EMULATION: "the trained module as it is, in evaluation mode: float32 copies of signs, heap left alone",
}


@dataclass(frozen=True)
class Form:
    """One form of the refiner.

    Attributes:
        refiner: has ``encode_condition``, ``repeat_condition`` and ``denoise``.
        keeps_freed: whether the heap is tuned for it.
        instruction_set: of the packed operators; None for the one in use.
    """

    refiner: Any
    keeps_freed: bool = True
    instruction_set: str | None = None

    def settle(self) -> None:
        """Brings the heap in the state that this form is meant for."""
        tune_heap() if self.keeps_freed else leave_heap_alone()

    def instructions(self) -> AbstractContextManager[None]:
        """Runs the packed operators with its instruction set within a ``with``."""
        return nullcontext() if self.instruction_set is None else ops.use_instruction_set(self.instruction_set)


def available_forms() -> list[str]:
    """Those of `FORMS` that this machine can run; AVX2 alone where there is better."""
    status = ops.status()
    has_both = status.instruction_set == "avx512" and "avx2" in status.available
    return [name for name in FORMS if name != PACKED_AVX2 or has_both]


@cache
def make_form(name: str, width: int) -> Form:
    """One of `FORMS`; of one width all but the twin hold the same weights."""
    if name == TWIN:
        return Form(FoldedRefiner(make_refiner(width, binarized=False), NUM_TIMESTEPS))
    if name == PACKED_AVX2:
        return Form(make_form(PACKED, width).refiner, instruction_set="avx2")
    if name == EMULATION:
        return Form(make_refiner(width), keeps_freed=False)
    trained = make_form(EMULATION, width).refiner
    return Form(trained.compile_inference(NUM_TIMESTEPS) if name == PACKED else FoldedRefiner(trained, NUM_TIMESTEPS))


class Chain:
    """One form at work on given inputs, ready for the first step.

    Args:
        form: the refiner's.
        inputs: image, prior and features.
        num_samples: chains of every image, in one batch.
    """

    @torch.no_grad()
    def __init__(self, form: Form, inputs: Inputs, num_samples: int = 1) -> None:
        self.form, self.num_samples = form, num_samples
        self.hidiff = make_hidiff(form.refiner)
        self.prior = inputs.prior
        self.condition = form.refiner.encode_condition(inputs.image, inputs.prior, inputs.features)

    @torch.no_grad()
    def run(self, num_inference_steps: int) -> torch.Tensor:
        """So many steps of the reverse chain, each a hard decision -> the estimate of y_0."""
        with self.form.instructions():
            estimates = self.hidiff.sample(self.prior, self.condition, "hard", num_inference_steps, self.num_samples)
        return estimates.flatten(0, 1)

    def settle(self) -> None:
        """What comes before a turn: the heap in this form's state, and a step that fills its memory anew."""
        self.form.settle()
        self.run(1)


def take_turns(chains: dict[str, Chain], num_inference_steps: int) -> tuple[dict[str, Callable], dict[str, Callable]]:
    """Candidates and their preparation, for `interleave`."""

    def runner(chain: Chain) -> Callable[[], object]:
        return lambda: chain.run(num_inference_steps)

    return {name: runner(chain) for name, chain in chains.items()}, {name: one.settle for name, one in chains.items()}
