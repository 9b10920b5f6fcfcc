"""Who used the processor, on made-up counters and on this machine's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hidiff_monai.benchmark import load
from hidiff_monai.benchmark.load import Load, LoadWatch


def counter(*values: float | None) -> Callable[[], float | None]:
    left = list(values)
    return lambda: left.pop(0)


def watch(*total: float | None) -> Load:
    clock, own = counter(100.0, 110.0), counter(5.0, 23.0)
    return LoadWatch(clock, own, counter(*total), counter(0.5, 1.5)).stop()  # type: ignore[arg-type]


def test_others_are_what_is_left_of_the_machine() -> None:
    assert watch(1000.0, 1021.0) == Load(10.0, 1.8, 0.3, 0.5, 1.5)
    assert watch(1000.0, 1017.0).other_cores == 0  # the counters' ticks are coarse
    assert watch(None, None).other_cores is None


def test_only_a_busy_machine_is_warned_of() -> None:
    assert "others 0.30 - NOT QUIET" in watch(0.0, 21.0).format()
    quiet = watch(0.0, 18.2)
    assert not quiet.was_disturbed
    assert quiet.format() == "load average 0.50 to 1.50; cores used by this process 1.80, by others 0.02"


def test_without_the_systems_count_a_process_that_waits_was_disturbed() -> None:
    assert Load(10.0, 0.7, None, None, None).was_disturbed
    assert not Load(10.0, 0.99, None, None, None).was_disturbed
    assert "load average ? to ?" in Load(10.0, 0.99, None, None, None).format()


def test_the_systems_count_leaves_idle_and_guests_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 10 50 9999 888 5 6 29 77 66\ncpu0 1 2\n")
    monkeypatch.setattr(load, "STAT", stat)
    monkeypatch.setattr(load.os, "sysconf", lambda name: 100)
    assert load.machine_seconds() == 2.0
    monkeypatch.setattr(load, "STAT", tmp_path / "nowhere")
    assert load.machine_seconds() is None


def test_a_computing_process_is_seen() -> None:
    meter = LoadWatch()
    while meter.stop().wall_s < 0.2:
        pass
    assert 0.05 < meter.stop().own_cores < 1.5
