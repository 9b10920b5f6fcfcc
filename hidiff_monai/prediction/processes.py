"""A cohort shared by the processes that ``torchrun`` started: each takes the next case, the first one tells of all.

There are no collective operations: a process that dies takes down the case it was at and no other. What the processes
tell each other goes through torchrun's key-value store, results through the files of the output folder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import torch
from torch import distributed

POLL_S = 0.2
FAREWELL_S = 30.0


class Processes:
    """The processes of a run, of which this is one; without torchrun the only one.

    Attributes:
        rank: the number of this process.
        number: of processes.
    """

    def __init__(self) -> None:
        self.rank, self.number = 0, 1
        self.store: distributed.Store = distributed.HashStore()
        if distributed.is_torchelastic_launched():
            meeting = distributed.rendezvous("env://", timeout=timedelta(minutes=10))
            self.store, self.rank, self.number = next(meeting)

    @property
    def is_first(self) -> bool:
        """Whether this process writes manifest and report."""
        return self.rank == 0

    def device(self, name: str | None) -> str | None:
        """The device's name for this process: of several GPUs of a machine each process gets one, in turn."""
        if self.number == 1 or name not in (None, "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"

    def share(self, name: str, make: Callable[[], str]) -> str:
        """What a function returns in the first process, where alone it is called; the others wait for it."""
        if self.is_first:
            self.store.set(name, make())
        return str(self.store.get(name).decode())

    def wait_for_first(self) -> None:
        """Waits until the first process has come here, too: from then on it tells of what the others lose."""
        if self.is_first:
            self.store.set("ready", "")
        while not self.store.check(["ready"]):
            time.sleep(POLL_S)  # not in the store, where no signal would be heard

    def take(self, number: int) -> Iterator[int]:
        """Numbers below ``number`` that no other process has taken, one after the other."""
        while (index := self.store.add("taken", 1) - 1) < number:
            yield index
        self.store.add("left", 1)

    def end(self, index: int, is_kept: bool) -> None:
        """Tells the first process that a case's record is written, and whether an earlier run had made it."""
        self.store.set(f"case {index}", "kept" if is_kept else "made")

    def ended(self, number: int) -> dict[int, bool]:
        """The cases that have ended so far, and whether an earlier run had made them."""
        found = [index for index in range(number) if self.store.check([f"case {index}"])]
        return {index: self.store.get(f"case {index}") == b"kept" for index in found}

    def wait(self, number: int, timeout_s: float) -> None:
        """Waits until every case has ended, and every process has left.

        Args:
            number: of cases.
            timeout_s: the longest time in which no case ends.
        """
        missing, last = set(range(number)), time.monotonic()
        while missing and time.monotonic() - last < timeout_s:
            ended = {index for index in missing if self.store.check([f"case {index}"])}
            missing -= ended
            last = time.monotonic() if ended else last
            time.sleep(POLL_S if missing else 0)
        deadline = time.monotonic() + (0 if missing else FAREWELL_S)
        while self.store.add("left", 0) < self.number and time.monotonic() < deadline:
            time.sleep(POLL_S)  # where this process keeps the store, none may lose it


@contextmanager
def interruptible(processes: Processes) -> Iterator[None]:
    """Inside, SIGTERM, with which torchrun ends all processes when one has failed, is like Ctrl-C; both come once."""
    if processes.number == 1:
        yield
        return
    is_interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        if not is_interrupted:
            is_interrupted = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def list_names(names: Sequence[str], max_listed: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - max_listed} more" if len(names) > max_listed else ""
    return ", ".join(names[:max_listed]) + more


def describe_missing(names: Sequence[str], planned: int, max_listed: int = 10) -> str:
    """Which cases a run has not come to, in a sentence."""
    return (
        f"{len(names)} of {planned} case(s) are missing: {list_names(names, max_listed)}: run the same line "
        "again, with any number of processes; what is complete is kept"
    )
