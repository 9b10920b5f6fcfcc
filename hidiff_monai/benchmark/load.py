"""What else the machine did meanwhile: a benchmark on a busy machine says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

STAT = Path("/proc/stat")
IDLE = (3, 4)  # columns of /proc/stat: idle, waiting for a disk
COUNTED = 8  # user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already
QUIET = 0.05  # cores that others may use before a warning


@dataclass(frozen=True)
class Load:
    """How busy this process and the rest of the machine were.

    Attributes:
        wall_s: seconds that went by.
        own_cores: processor time of this process and of its ended children / wall_s.
        other_cores: that of everybody else, time stolen from a virtual machine included; None where the system does
            not tell (outside Linux).
        average_start: the system's load average of the last minute, before; None where it has none.
        average_end: and after.
    """

    wall_s: float
    own_cores: float
    other_cores: float | None
    average_start: float | None
    average_end: float | None

    @property
    def was_disturbed(self) -> bool:
        """Whether somebody else computed: by the system's count, else by this process getting less than one core."""
        return self.own_cores < 1 - 2 * QUIET if self.other_cores is None else self.other_cores > QUIET

    def format(self) -> str:
        """One line, a warning where the machine was not quiet."""
        others = "unknown" if self.other_cores is None else f"{self.other_cores:.2f}"
        averages = " to ".join("?" if x is None else f"{x:.2f}" for x in (self.average_start, self.average_end))
        text = f"load average {averages}; cores used by this process {self.own_cores:.2f}, by others {others}"
        if self.was_disturbed:
            text += " - NOT QUIET: ratios are of the same moments and stand, seconds do not"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


class LoadWatch:
    """Notes the counters when it is made; ``stop`` tells what was used since.

    Args:
        clock: seconds of a wall clock.
        own: processor seconds of this process so far.
        total: processor seconds of everybody so far, or None.
        average: the load average, or None.
    """

    def __init__(
        self,
        clock: Callable[[], float] = perf_counter,
        own: Callable[[], float] | None = None,
        total: Callable[[], float | None] | None = None,
        average: Callable[[], float | None] | None = None,
    ) -> None:
        self._clock, self._own = clock, own or own_seconds
        self._total, self._average = total or machine_seconds, average or load_average
        self._start = (self._clock(), self._own(), self._total(), self._average())

    def stop(self) -> Load:
        """What went on since this watch was made."""
        clock, own, total, average = self._start
        wall_s = max(self._clock() - clock, 1e-9)
        used, everybody = self._own() - own, self._total()
        others = None if total is None or everybody is None else max(0.0, everybody - total - used) / wall_s
        return Load(wall_s, used / wall_s, others, average, self._average())


def own_seconds() -> float:
    """Processor seconds of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def machine_seconds() -> float | None:
    """Processor seconds that were not idle, of all cores since the machine started; None where there is no count."""
    try:
        columns = [int(value) for value in STAT.read_text().splitlines()[0].split()[1 : 1 + COUNTED]]
    except (OSError, ValueError, IndexError):
        return None
    return (sum(columns) - sum(columns[i] for i in IDLE)) / os.sysconf("SC_CLK_TCK")


def load_average() -> float | None:
    """The load average of the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
