"""The file is kept apart from other runs; tables and bars say what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.benchmark import results
from hidiff_monai.benchmark.bars import Bar, check_bars
from hidiff_monai.benchmark.figure import draw_results
from hidiff_monai.benchmark.forms import CLEAN, EMULATION, PACKED, PACKED_AVX2, TWIN
from hidiff_monai.benchmark.load import Load
from hidiff_monai.benchmark.results import describe_machine, open_results, read_results, write_results
from hidiff_monai.benchmark.settings import Settings
from hidiff_monai.benchmark.tables import format_results, seconds, table, with_spread
from hidiff_monai.benchmark.timing import Measurement

QUIET, BUSY = Load(9.0, 2.0, 0.0, 0.1, 2.0), Load(9.0, 1.1, 0.9, 2.0, 2.5)


def step(load: Load = QUIET, batch: int = 1) -> dict[str, Any]:
    times = {PACKED: 1.0, PACKED_AVX2: 4.0, CLEAN: 13.0, TWIN: 9.0, EMULATION: 29.0}
    measured = Measurement({name: [value, value, value] for name, value in times.items()}, load)
    return {
        "part": "step",
        "title": f"10 steps, batch {batch}, 2 threads",
        "steps": 10,
        "batch": batch,
        "threads": 2,
        "image_size": 256,
        "width": 128,
        "speedups": {name: value for name, value in times.items() if name != PACKED},
        "speedup_spreads": {name: [value - 0.5, value + 0.5] for name, value in times.items() if name != PACKED},
        **measured.to_dict(),
    }


def layer(size: int, kernel_size: int, packed_s: float, width: int = 128) -> dict[str, Any]:
    measured = Measurement({"packed": [packed_s] * 3, "fp32": [0.2] * 3, "fp32 prepacked": [0.1] * 3}, QUIET)
    return {
        "part": "layers",
        "name": f"{kernel_size}x{kernel_size}, {size}^2",
        "threads": 1,
        "kernel_size": kernel_size,
        "size": size,
        "stride": 1,
        "width": width,
        "image_size": 256,
        "multiply_adds": 1,
        "baseline": "fp32 prepacked",
        "speedups": {"fp32": 0.2 / packed_s, "fp32 prepacked": 0.1 / packed_s},
        "clock_hz": 3.6e9,
        "limit_s": packed_s / 2,
        **measured.to_dict(),
    }


def growth(image_size: int, num_samples: int, peak_gib: float) -> dict[str, Any]:
    return {
        "part": "growth",
        "image_size": image_size,
        "num_samples": num_samples,
        "threads": 2,
        "width": 128,
        "memory": {"compiled": {"before_gib": 0.5, "peak_gib": peak_gib}},
        "skipped": {"eager": "needs about 12.0 GiB, allowed are 9.0"},
        **Measurement({"compiled": [0.5, 0.6, 0.7]}, QUIET).to_dict(),
    }


def content_of(*units: dict[str, Any]) -> dict[str, Any]:
    return {"machine": describe_machine(), "units": {str(i): unit for i, unit in enumerate(units)}}


def test_what_is_written_is_read_and_gone_on_with(tmp_path: Path) -> None:
    content = open_results(tmp_path, Settings(), ["hidiff", "benchmark"])
    assert content["command"] == ["hidiff", "benchmark"] and content["units"] == {}
    content["units"]["a"] = step()
    write_results(tmp_path, content)
    assert open_results(tmp_path, Settings(), ["another"]) == json.loads(json.dumps(content)) == read_results(tmp_path)


def test_another_run_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(tmp_path, open_results(tmp_path, Settings(), []))
    with pytest.raises(ValueError, match="width 128 there, 64 now; expected the same: give another --output"):
        open_results(tmp_path, Settings(width=64), [])
    monkeypatch.setattr(results, "describe_machine", lambda: {**describe_machine(), "cpu": "another"})
    with pytest.raises(ValueError, match="'another' now"):
        open_results(tmp_path, Settings(), [])


@pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ('{"format": 7}', "has format 7; expected 1")])
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / results.FILE).write_text(text)
    with pytest.raises(ValueError, match=message):
        open_results(tmp_path, Settings(), [])


def test_bars_of_the_loop() -> None:
    bars = {bar.what: bar for bar in check_bars([step()])}
    title = "10 steps, batch 1, 2 threads"
    assert bars[f"{title}, times {CLEAN}"] == Bar(f"{title}, times {CLEAN}", 13.0, 12.0)
    assert bars[f"{title}, times {CLEAN}"].is_met and not bars[f"{title}, times {EMULATION}"].is_met
    assert bars[f"{title}, AVX2, times {CLEAN}"].got == 3.25
    assert bars[f"{title}, times {EMULATION}"].format() == f"MISSED {title}, times {EMULATION}: 29 (expected >= 30)"


def test_bars_of_layers_hold_at_the_papers_size_only() -> None:
    units = [layer(256, 3, 0.01), layer(128, 3, 0.01), layer(8, 1, 0.01), layer(256, 3, 0.01, width=32)]
    assert [(bar.got, bar.bound) for bar in check_bars(units)] == [(10.0, 8.0), (10.0, 12.0), (10.0, 8.0)]


def test_bars_of_size_training_and_memory() -> None:
    size = {"part": "step", "width": 128, "image_size": 256, "operations_per_step": 0.2e10, "file_bytes": 20e6}
    training = {"part": "training", "image_size": 128, "title": "t", "speedups": {"trainer": 2.0}}
    bars = check_bars([size | {"twin_ratio": 30.0}, training, growth(1024, 1, 2.1), growth(512, 1, 9.0)])
    assert [bar.is_met for bar in bars] == [True, False, True, True, True]
    assert check_bars([training | {"image_size": 64}]) == []


def test_tables_say_what_is_there() -> None:
    text = format_results(content_of(layer(128, 3, 0.005), step(BUSY), growth(1024, 1, 2.125)))
    assert "5 ms [5, 5]  2.5 ms, 50%  200 ms  40.0" in text
    assert "straight-through emulation  29 s [29, 29]  29.0 [28.5, 29.5]" in text
    assert "600 ms [520, 680]       2.12                     1.62" in text
    assert "left out: needs about 12.0 GiB, allowed are 9.0" in text
    assert text.count("NOT QUIET") == 1 and "1 of 1 measurements were disturbed" in text
    assert text.index("Layers") < text.index("Refiner") < text.index("Growth") < text.index("Bars")


def test_columns_line_up() -> None:
    assert table(["a", "b"], [["long", "1"], ["x", "22"]]) == ["a      b", "long   1", "x     22"]


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (12.345, "12.3 s"),
        (1234.0, "1234 s"),
        (0.9996, "1 s"),
        (0.001824, "1.82 ms"),
        (0.0009997, "1 ms"),
        (0.0000305, "30.5 us"),
    ],
)
def test_seconds_have_units(value_s: float, text: str) -> None:
    assert seconds(value_s) == text


def test_a_spread_is_in_the_unit_of_its_median() -> None:
    measured = Measurement({"packed": [180e-6, 182e-6, 184e-6]}, QUIET)
    assert with_spread(measured, "packed").startswith("182 us [18")


def test_the_figure_has_a_panel_for_what_is_there() -> None:
    assert draw_results(content_of()) is None
    units = [layer(128, 3, 0.005), step(), growth(512, 1, 1.0), growth(1024, 1, 2.0), growth(512, 2, 1.2)]
    for chosen in (units, units[:1], units[1:2], units[2:]):
        png = draw_results(content_of(*chosen))
        assert png is not None and png.startswith(b"\x89PNG")
