"""Seconds of pure inference, without reading, writing and pictures."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

import torch

Result = TypeVar("Result")

WARM_UP = 2  # untimed calls at each new shape on an accelerator: a CUDA graph is recorded at the second


def time_call(function: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """What a function returns, and the seconds until its device had done all of it."""
    wait_for(device)
    start = perf_counter()
    result = function()
    wait_for(device)
    return result, perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Returns when the device has nothing left to do; a CPU never has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
