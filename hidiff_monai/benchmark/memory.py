"""Peak memory of one inference, in a process of its own: what earlier work has touched would count otherwise."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

GIB = 2**30
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 2  # of the chain: no step takes more than the one before
RESET_PEAK = "5"
PRELOADED = "hidiff_monai.benchmark.inference"


@dataclass(frozen=True)
class Case:
    """One whole inference, segmentor included.

    Attributes:
        network: "compiled", "clean fp32" or "eager".
        width: of the refiner.
        image_size: edge of the image in pixels.
        num_samples: chains, in one batch.
        threads: of torch.
    """

    network: str
    width: int
    image_size: int
    num_samples: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Peak:
    """Resident memory of that process.

    Attributes:
        before_gib: with the network made, before the image.
        peak_gib: the most there was, while the image was worked on.
    """

    before_gib: float
    peak_gib: float


def measure_peak(case: Case) -> Peak:
    """Runs the case in a fresh process.

    Raises:
        RuntimeError: when that process ends without an answer; what it had to say is on stderr.
    """
    is_forked = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if is_forked else "spawn")
    if is_forked:
        context.set_forkserver_preload([PRELOADED])  # imported once, by a process that computes nothing
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(case, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{case} ended with exit code {process.exitcode}: killed, for memory perhaps") from None
    finally:
        process.join()


def free_gib() -> float | None:
    """Memory that could be had without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else kib * 1024 / GIB


@torch.no_grad()
def run_case(case: Case) -> Peak:
    """Runs the case in this process."""
    from hidiff_monai.benchmark.inference import make_network
    from hidiff_monai.benchmark.models import IMAGE_CHANNELS

    torch.set_num_threads(case.threads)
    network, form = make_network(case.network, case.width, STEPS)
    network.num_samples, network.sampler = case.num_samples, "ddim"
    form.settle()
    before = _resident_gib("VmRSS")
    _forget_peak()
    network(torch.randn(1, IMAGE_CHANNELS, case.image_size, case.image_size))
    return Peak(before, _resident_gib("VmHWM"))


def _forget_peak() -> None:
    """Lets VmHWM begin anew; where that is not allowed, it holds the making of the network too, which takes less."""
    with suppress(OSError):
        CLEAR.write_text(RESET_PEAK)


def _resident_gib(field: str) -> float:
    """A field of /proc/self/status; elsewhere the largest resident memory so far."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024 / GIB
    units = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * units / GIB


def _send_peak(case: Case, sender: Any) -> None:
    sender.send(run_case(case))
