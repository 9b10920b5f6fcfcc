"""Rounds, medians and ratios on a made-up clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hidiff_monai.benchmark.load import Load
from hidiff_monai.benchmark.timing import Measurement, Rounds, interleave, thread_count

QUIET = Load(1.0, 1.0, 0.0, 0.1, 0.2)


class Clock:
    """Stands still but for the calls it hands out."""

    def __init__(self) -> None:
        self.now, self.called = 0.0, ""

    def __call__(self) -> float:
        return self.now

    def task(self, name: str, *durations_s: float) -> Callable[[], None]:
        """Takes these durations in turn, the last one from then on, and leaves its name."""
        left = list(durations_s)

        def run() -> None:
            self.called += name
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_every_round_runs_every_candidate_and_begins_with_another() -> None:
    clock = Clock()
    candidates = {name: clock.task(name, 2.0) for name in "abc"}
    measured = interleave(candidates, Rounds(1, 4, 1e9), clock=clock)
    assert clock.called == "abc" + "abc" + "bca" + "cab" + "abc"  # the first three warm up
    assert measured.times_s == {name: [2.0] * 4 for name in "abc"}
    assert measured.names == ["a", "b", "c"]


def test_short_calls_fill_a_turn_and_their_mean_is_taken() -> None:
    clock = Clock()
    measured = interleave({"a": clock.task("a", 0.5, 0.008, 0.008, 0.009, 0.010)}, Rounds(1, 1), clock=clock)
    assert clock.called == "a" * (2 + 3)  # 20 ms hold three calls of 8 ms
    assert measured.times_s["a"] == [pytest.approx(0.009)]


def test_a_first_call_that_is_slow_does_not_decide() -> None:
    clock = Clock()
    interleave({"a": clock.task("a", 0.9, 0.01)}, Rounds(2, 2), clock=clock)
    assert clock.called == "a" * (2 + 2 * 2)


def test_preparation_takes_the_place_of_warming_up_and_is_not_timed() -> None:
    clock = Clock()
    candidates = {"a": clock.task("a", 0.001), "b": clock.task("b", 0.004)}
    prepare = {"a": clock.task("x", 100.0), "b": clock.task("y", 100.0)}
    measured = interleave(candidates, Rounds(2, 2), prepare=prepare, clock=clock)
    assert clock.called == "xayb" + "ybxa"
    assert measured.times_s == {"a": pytest.approx([0.001] * 2), "b": pytest.approx([0.004] * 2)}


@pytest.mark.parametrize(("budget_s", "rounds"), [(0.0, 3), (7.0, 4), (8.1, 5), (100.0, 6)])
def test_rounds_end_with_the_budget_but_not_before_the_least(budget_s: float, rounds: int) -> None:
    clock = Clock()
    measured = interleave({"a": clock.task("a", 2.0)}, Rounds(3, 6, budget_s), clock=clock)
    assert len(measured.times_s["a"]) == rounds


def test_ratios_are_taken_round_by_round() -> None:
    """A busy moment, here of the third round, slows all alike: it moves the medians, not the ratio."""
    measured = Measurement({"fast": [1.0, 1.0, 9.0], "slow": [10.0, 12.0, 99.0]}, QUIET)
    assert measured.speedup("fast", "slow") == 11.0  # of 10, 12, 11
    assert measured.speedup_spread("fast", "slow") == pytest.approx((10.2, 11.8))
    assert (measured.median_s("fast"), measured.median_s("slow")) == (1.0, 12.0)
    assert measured.spread_s("fast") == pytest.approx((1.0, 7.4))
    assert measured.fastest(["slow", "fast"]) == "fast"


def test_what_is_written_is_read_again() -> None:
    measured = Measurement({"a": [1.0, 3.0, 2.0]}, QUIET)
    content = measured.to_dict()
    assert content["candidates"]["a"]["median_s"] == 2.0
    assert content["candidates"]["a"]["p90_s"] == pytest.approx(2.8)
    assert Measurement.from_dict(content) == measured


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="no candidate is given; expected at least one"):
        interleave({}, Rounds())
    with pytest.raises(ValueError, match="rounds are 3 to 2; expected at least 1"):
        Rounds(3, 2)
