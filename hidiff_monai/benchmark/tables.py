"""Results as text: a table per part, then the bars that the packed network is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hidiff_monai.benchmark.bars import check_bars
from hidiff_monai.benchmark.forms import MEANING
from hidiff_monai.benchmark.layers import BLOCK, CONVOLUTIONS, PACKED
from hidiff_monai.benchmark.load import Load
from hidiff_monai.benchmark.results import Content
from hidiff_monai.benchmark.settings import count
from hidiff_monai.benchmark.timing import Measurement
from hidiff_monai.benchmark.training_part import PLAIN

Row = dict[str, Any]


def format_results(content: Content) -> str:
    """Everything that was measured."""
    machine = content["machine"]
    clock = "" if machine["clock_ghz"] is None else f", {machine['clock_ghz']} GHz measured"
    head = (
        f"{machine['cpu']}{clock}, {machine['cpu_count']} cores, torch {machine['torch']}, packed operators: "
        f"{machine['instruction_set']}"
    )
    units = list(content["units"].values())
    blocks = [head, "Median [10 %, 90 %] of the rounds. x: median of the rounds' ratios, how much faster packed is."]
    for part, write in WRITERS.items():
        chosen = [unit for unit in units if unit["part"] == part]
        if chosen:
            blocks += ["\n".join(write(chosen)), _format_load(chosen)]
    bars = check_bars(units)
    if bars:
        blocks.append("\n".join(["Bars", *(f"  {bar.format()}" for bar in bars)]))
    return "\n\n".join(block for block in blocks if block)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns side by side, the first to the left, all others to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(line, widths)))  # noqa: B905
        for line in lines
    ]


def seconds(value_s: float) -> str:
    """With its unit, three digits: ``1.82 ms``."""
    unit, scale = _unit(value_s)
    return f"{_digits(value_s * scale)} {unit}"


def with_spread(measured: Measurement, name: str) -> str:
    """``1.82 ms [1.79, 1.90]``, all three in the median's unit."""
    median_s, (low, high) = measured.median_s(name), measured.spread_s(name)
    _, scale = _unit(median_s)
    return f"{seconds(median_s)} [{_digits(low * scale)}, {_digits(high * scale)}]"


def _unit(value_s: float) -> tuple[str, float]:
    """The largest unit in which three digits are 1 or more, and how many make a second."""
    units = (("s", 1.0), ("ms", 1e3))
    return next((unit for unit in units if float(f"{value_s * unit[1]:.3g}") >= 1), ("us", 1e6))


def _digits(value: float) -> str:
    return f"{value:.3g}" if float(f"{value:.3g}") < 1000 else f"{value:.0f}"


def _layers(units: list[Row]) -> list[str]:
    rivals = list(dict.fromkeys(name for unit in units for name in unit["speedups"]))
    head = ["layer", "threads", "packed", "limit", *(name for rival in rivals for name in (rival, "x"))]
    rows = []
    for unit in units:
        measured = Measurement.from_dict(unit)
        limit_s = unit["limit_s"]
        share = "-" if limit_s is None else f"{seconds(limit_s)}, {limit_s / measured.median_s(PACKED):.0%}"
        cells = [unit["name"], str(unit["threads"]), with_spread(measured, PACKED), share]
        for rival in rivals:
            known = rival in unit["speedups"]
            cells += [seconds(measured.median_s(rival)), f"{unit['speedups'][rival]:.1f}"] if known else ["-", "-"]
        rows.append(cells)
    note = (
        f"{PACKED} and {BLOCK} do all of a layer's work, packing included; {', '.join(CONVOLUTIONS)}, bf16 and int8 "
        "the convolution alone. limit: the population counts alone; the share of it that packed reaches."
    )
    return ["Layers", *table(head, rows), note]


def _steps(units: list[Row]) -> list[str]:
    lines = ["Refiner"]
    for unit in units:
        if "candidates" not in unit:
            lines += [f"  {line}" for line in unit["text"]]
    timed = [unit for unit in units if "candidates" in unit]
    names = list(dict.fromkeys(name for unit in timed for name in unit["candidates"]))
    rows = []
    for unit in timed:
        measured = Measurement.from_dict(unit)
        for name in measured.names:
            rows.append([unit["title"], name, with_spread(measured, name), _ratio(unit, name)])
    meanings = [f"{name}: {MEANING[name]}." for name in names if name in MEANING]
    return [*lines, *(table(["refiner", "form", "time", "x"], rows) if rows else []), *meanings]


def _ratio(unit: Row, name: str) -> str:
    if name not in unit["speedups"]:
        return ""
    low, high = unit["speedup_spreads"][name]
    return f"{unit['speedups'][name]:.1f} [{low:.1f}, {high:.1f}]"


def _inference(units: list[Row]) -> list[str]:
    rows = []
    for unit in units:
        measured = Measurement.from_dict(unit)
        for name in measured.names:
            x = f"{unit['speedups'][name]:.1f}" if name in unit["speedups"] else ""
            what = f"{unit['image_size']}^2, {unit['steps']} steps, {count(unit['threads'], 'thread')}"
            rows.append([what, name, with_spread(measured, name), x])
        rows.append(["", "share of the segmentor in compiled", f"{unit['segmentor_share']:.0%}", ""])
    return ["Whole inference, segmentor included", *table(["inference", "form", "time", "x"], rows)]


def _training(units: list[Row]) -> list[str]:
    rows = []
    for unit in units:
        measured = Measurement.from_dict(unit)
        rows += [[unit["title"], name, with_spread(measured, name), _ratio(unit, name)] for name in measured.names]
    return [f"Training step (x: times {PLAIN})", *table(["step", "implementation", "time", "x"], rows)]


def _growth(units: list[Row]) -> list[str]:
    rows = []
    for unit in units:
        what = ", ".join(
            [f"{unit['image_size']}^2", count(unit["num_samples"], "sample"), count(unit["threads"], "thread")]
        )
        for name, peak in unit["memory"].items():
            added = peak["peak_gib"] - peak["before_gib"]
            rows.append(
                [what, name, with_spread(Measurement.from_dict(unit), name), f"{peak['peak_gib']:.2f}", f"{added:.2f}"]
            )
        rows += [[what, name, f"left out: {why}", "-", "-"] for name, why in unit["skipped"].items()]
    head = ["image", "form", "one step of the refiner", "peak, GiB", "beyond the network, GiB"]
    note = "Memory: resident, of a process that does one whole inference with its segmentor and nothing else."
    return ["Growth", *table(head, rows), note]


def _format_load(units: list[Row]) -> str:
    """A warning with the worst of the units; nothing where all were quiet."""
    loads = [Load(**unit["load"]) for unit in units if "load" in unit]
    disturbed = [load for load in loads if load.was_disturbed]
    if not disturbed:
        return ""
    worst = max(disturbed, key=lambda load: load.other_cores or 0.0)
    return f"{len(disturbed)} of {len(loads)} measurements were disturbed; the worst: {worst.format()}"


WRITERS: dict[str, Callable[[list[Row]], list[str]]] = {
    "layers": _layers,
    "step": _steps,
    "inference": _inference,
    "training": _training,
    "growth": _growth,
}
