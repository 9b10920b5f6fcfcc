"""The measured clock is one a processor has."""

from __future__ import annotations

from pathlib import Path

import pytest

from hidiff_monai.benchmark import clock


def test_the_loop_jumps_back_to_its_first_multiplication() -> None:
    code, jump = clock.assemble_loop()
    after_jump = code.index(b"\x0f\x85") + 6
    assert code[after_jump + jump : after_jump + jump + 3] == b"\x0f\xaf\xc0"
    assert code[after_jump + jump - 3 : after_jump + jump] == b"\x48\x89\xf9"
    assert code[after_jump:] == b"\xc3"


def test_clock_is_plausible_and_repeats() -> None:
    first, second = clock.measure_clock_hz(), clock.measure_clock_hz()
    if first is None or second is None:
        pytest.skip("this machine tells no clock")
    assert 0.4e9 < first < 8e9
    assert first == pytest.approx(second, rel=0.5)


def test_elsewhere_it_is_what_the_system_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name : x\ncpu MHz\t\t: 2596.150\n")
    monkeypatch.setattr(clock, "CPUINFO", cpuinfo)
    monkeypatch.setattr(clock.platform, "machine", lambda: "riscv64")
    assert clock.measure_clock_hz() == pytest.approx(2.59615e9)
    monkeypatch.setattr(clock, "CPUINFO", tmp_path / "nowhere")
    assert clock.measure_clock_hz() is None
