"""Times several candidates side by side: in turns, in one process, so that a busy moment meets all of them alike."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from hidiff_monai.benchmark.load import Load, LoadWatch

TURN_S = 0.02  # a turn shorter than this is filled with repeats
MAX_REPEATS = 1000

Candidates = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Rounds:
    """How long to measure: ``most`` rounds, fewer where ``budget_s`` is over, but never fewer than ``least``.

    Attributes:
        least: rounds that are run however long they take.
        most: rounds after which it ends.
        budget_s: seconds after which no further round begins.
    """

    least: int = 3
    most: int = 15
    budget_s: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"rounds are {self.least} to {self.most}; expected at least 1, and not more than most")


@dataclass(frozen=True)
class Measurement:
    """Seconds per call of every candidate in every round.

    Attributes:
        times_s: a list per candidate, one entry a round, round by round.
        load: how quiet the machine was.
    """

    times_s: dict[str, list[float]]
    load: Load

    @property
    def names(self) -> list[str]:
        """The candidates, in the order they were given."""
        return list(self.times_s)

    def median_s(self, name: str) -> float:
        """Median over the rounds."""
        return median(self.times_s[name])

    def spread_s(self, name: str) -> tuple[float, float]:
        """The tenth and the ninetieth percentile over the rounds."""
        low, high = np.percentile(self.times_s[name], (10, 90))
        return float(low), float(high)

    def speedup(self, name: str, over: str) -> float:
        """How many times faster than ``over``: the median of the rounds' ratios, robust to a busy machine."""
        return median(self._ratios(name, over))

    def speedup_spread(self, name: str, over: str) -> tuple[float, float]:
        """The tenth and the ninetieth percentile of the rounds' ratios."""
        low, high = np.percentile(self._ratios(name, over), (10, 90))
        return float(low), float(high)

    def fastest(self, names: list[str]) -> str:
        """Which of these has the smallest median."""
        return min(names, key=self.median_s)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON: what is derived stands beside what was measured."""
        rows = {}
        for name in self.names:
            low, high = self.spread_s(name)
            times = self.times_s[name]
            rows[name] = {"median_s": self.median_s(name), "p10_s": low, "p90_s": high, "times_s": times}
        return {"candidates": rows, "load": self.load.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_dict`."""
        times_s = {name: list(row["times_s"]) for name, row in content["candidates"].items()}
        return cls(times_s, Load(**content["load"]))

    def _ratios(self, name: str, over: str) -> list[float]:
        return [slow / fast for fast, slow in zip(self.times_s[name], self.times_s[over], strict=True)]


def interleave(
    candidates: Candidates,
    rounds: Rounds,
    title: str = "",
    prepare: Candidates | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Measurement:
    """Runs every candidate once a round, each round beginning with another one.

    A short call is repeated until a turn takes `TURN_S`; a turn's time is the mean of its calls.

    Args:
        candidates: name to what is timed.
        rounds: how many.
        title: of the progress bar on stderr; none is shown where it is empty.
        prepare: name to what is run before each turn and is not timed. A candidate that has it is not warmed up
            otherwise, nor repeated within a turn.
        clock: seconds, rising.

    Raises:
        ValueError: if there is no candidate.
    """
    if not candidates:
        raise ValueError("no candidate is given; expected at least one to be timed")
    names, prepare = list(candidates), prepare or {}
    repeats = {name: 1 if name in prepare else _warm_up(candidates[name], clock) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    watch, start = LoadWatch(), clock()
    with tqdm(total=rounds.most, desc=title, unit="round", file=sys.stderr, disable=not title, leave=False) as bar:
        for number in range(rounds.most):
            if number >= rounds.least and clock() - start >= rounds.budget_s:
                break
            first = number % len(names)
            for name in names[first:] + names[:first]:
                prepare.get(name, _nothing)()
                times[name].append(_turn(candidates[name], repeats[name], clock))
            bar.update()
    return Measurement(times, watch.stop())


@contextmanager
def thread_count(number: int) -> Iterator[None]:
    """Lets torch use so many threads within a ``with``."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warm_up(call: Callable[[], object], clock: Callable[[], float]) -> int:
    """Runs a candidate until its next call costs what every later one does; tells how often it fits in a turn."""
    if _turn(call, 1, clock) >= 1.0:
        return 1
    return min(MAX_REPEATS, max(1, math.ceil(TURN_S / max(_turn(call, 1, clock), 1e-9))))


def _turn(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """Mean seconds of a call."""
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def _nothing() -> None:
    """Prepares a candidate that needs no preparation."""
