"""Memory is measured in processes of their own, and what would not fit is left out."""

from __future__ import annotations

import pytest

from hidiff_monai.benchmark import growth, memory
from hidiff_monai.benchmark.figure import draw_results
from hidiff_monai.benchmark.growth import guess_peak_gib, measure_growth
from hidiff_monai.benchmark.memory import Case, Peak, measure_peak
from hidiff_monai.benchmark.results import is_measured
from hidiff_monai.benchmark.settings import Settings
from hidiff_monai.benchmark.tables import format_results

TINY = Settings().quick()


def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(RuntimeError, match="network='no such form'.*ended with exit code 1"):
        measure_peak(Case("no such form", 8, 64))


def test_larger_images_are_guessed_to_need_more() -> None:
    assert guess_peak_gib("eager", 128, 1024, 1) == pytest.approx(12)
    assert guess_peak_gib("compiled", 128, 512, 4) == guess_peak_gib("compiled", 128, 1024, 1)


def test_what_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "measure_peak", lambda case: Peak(1.0, 2.0))
    limit = guess_peak_gib("clean fp32", 8, 64, 1)
    settings = Settings(**{**vars(TINY), "memory_limit_gib": limit})
    unit = measure_growth(settings, 64, 1)
    assert list(unit["candidates"]) == list(unit["memory"]) == ["compiled", "clean fp32"]
    assert list(unit["skipped"]) == ["eager"] and "needs about 1.0 GiB" in unit["skipped"]["eager"]


def test_a_size_that_fits_in_no_form_is_told_and_measured_once_there_is_room() -> None:
    nothing = measure_growth(Settings(**{**vars(TINY), "memory_limit_gib": 0.5}), 64, 1)
    assert list(nothing["skipped"]) == ["compiled", "clean fp32", "eager"] and not is_measured(nothing)
    machine = {"cpu": "x", "clock_ghz": None, "cpu_count": 2, "torch": "2", "instruction_set": "none"}
    content = {"machine": machine, "units": {"growth/64^2, 1 samples": nothing}}
    assert format_results(content).count("left out: needs about 1.0 GiB, allowed are 0.5") == 3
    assert draw_results(content) is None


def test_free_memory_is_plausible() -> None:
    free_gib = memory.free_gib()
    assert free_gib is None or 0.01 < free_gib < 1e5
