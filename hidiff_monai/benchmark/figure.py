"""The results as one picture: layers, the reverse chain, growth."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from hidiff_monai.benchmark.forms import PACKED
from hidiff_monai.benchmark.layers import BF16, INT8
from hidiff_monai.benchmark.results import Content
from hidiff_monai.benchmark.settings import count
from hidiff_monai.benchmark.timing import Measurement
from hidiff_monai.report.canvas import THEMES, Theme, new_figure, plain, to_png

Row = dict[str, Any]
COLOURS = {"compiled": "refined", "clean fp32": "prior", "eager": "worse"}


def draw_results(content: Content, theme: str = "light") -> bytes | None:
    """The figure as the bytes of a PNG, a panel for each part that is there; None if none is.

    Args:
        content: the results.
        theme: light or dark.
    """
    colours = THEMES[theme]
    units = [unit for unit in content["units"].values() if "candidates" in unit]
    layers = [unit for unit in units if unit["part"] == "layers"]
    loops = [unit for unit in units if unit["part"] == "step"]
    growth = [unit for unit in units if unit["part"] == "growth"]
    panels = [bool(layers), bool(loops), *[bool(growth)] * 2]
    if not any(panels):
        return None
    rows, columns = (2, 2) if all(panels) else (1, sum(panels))
    figure = new_figure(6.6 * columns, 4.4 * rows, colours)
    axes = iter(figure.subplots(rows, columns, squeeze=False).flat)
    if layers:
        _draw_layers(next(axes), [unit for unit in layers if unit["threads"] == layers[0]["threads"]], colours)
    if loops:
        _draw_loop(next(axes), max(loops, key=lambda unit: (unit["steps"], -unit["batch"], -unit["threads"])), colours)
    if growth:
        _draw_growth(next(axes), growth, colours, is_memory=False)
        _draw_growth(next(axes), growth, colours, is_memory=True)
    figure.tight_layout(w_pad=2.5, h_pad=2.0)
    return to_png(figure)


def _title(axes: Axes, text: str, colours: Theme) -> None:
    plain(axes, colours)
    axes.set_title(text, loc="left", color=colours.ink, fontsize=10)


def _draw_layers(axes: Axes, units: list[Row], colours: Theme) -> None:
    """How many times faster than float32: packed, int8, bfloat16."""
    _title(
        axes,
        f"Layers: times float32 ({units[0]['baseline'].split()[0]}), {count(units[0]['threads'], 'thread')}",
        colours,
    )
    heights = {"packed": colours.refined, INT8: colours.prior, BF16: colours.faint}
    for i, (name, colour) in enumerate(heights.items()):
        known = [(k, unit) for k, unit in enumerate(units) if name in unit["candidates"]]
        ratios = [Measurement.from_dict(unit).speedup(name, unit["baseline"]) for _, unit in known]
        axes.barh([k + 0.27 * (i - 1) for k, _ in known], ratios, 0.25, color=colour, label=name)
        for (k, _), ratio in zip(known, ratios, strict=True):
            if name == "packed":
                axes.text(ratio, k - 0.27, f" {ratio:.1f}", va="center", color=colours.ink, fontsize=8)
    axes.set_yticks(range(len(units)), [unit["name"] for unit in units])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=colours.ink)


def _draw_loop(axes: Axes, unit: Row, colours: Theme) -> None:
    """Seconds of the longest chain, on a logarithmic axis."""
    measured = Measurement.from_dict(unit)
    _title(axes, f"Refiner at {unit['image_size']}^2: seconds for {unit['title']}", colours)
    for i, name in enumerate(measured.names):
        median_s, (low, high) = measured.median_s(name), measured.spread_s(name)
        spread = [[max(0.0, median_s - low)], [max(0.0, high - median_s)]]
        colour = colours.refined if name.startswith(PACKED) else colours.prior
        axes.barh(i, median_s, 0.6, color=colour, xerr=spread, ecolor=colours.ink)
        ratio = "" if name == PACKED else f" ({unit['speedups'][name]:.1f} x packed)"
        axes.text(high, i, f"  {median_s:.3g} s{ratio}", va="center", color=colours.ink, fontsize=8.5)
    axes.set_xscale("log")
    slowest = max(measured.spread_s(name)[1] for name in measured.names)
    fastest = min(measured.spread_s(name)[0] for name in measured.names)
    axes.set_xlim(fastest / 2, slowest * (slowest / fastest) ** 0.6 * 2)  # room for the text
    axes.set_yticks(range(len(measured.names)), measured.names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _draw_growth(axes: Axes, units: list[Row], colours: Theme, is_memory: bool) -> None:
    """One step's seconds, or an inference's peak memory, over the pixels of the image times the samples."""
    what = "whole inference, peak GiB" if is_memory else f"one step, seconds, {count(units[0]['threads'], 'thread')}"
    _title(axes, f"Growth: {what}", colours)
    for name, role in COLOURS.items():
        for is_size, marker, style in ((True, "o", "-"), (False, "s", "--")):
            points = sorted(_points(units, name, is_size, is_memory))
            if points:
                label = f"{name}, {'image size' if is_size else 'samples'}"
                xs, ys = zip(*points, strict=True)
                axes.plot(xs, ys, marker=marker, linestyle=style, color=getattr(colours, role), label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("megapixels x samples", color=colours.ink, fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=colours.ink)


def _points(units: list[Row], name: str, is_size: bool, is_memory: bool) -> list[tuple[float, float]]:
    """(pixels x samples, value) of one form, where the image grows, or where the samples do."""
    base = min(unit["image_size"] for unit in units if unit["num_samples"] == max(u["num_samples"] for u in units))
    points = []
    for unit in units:
        belongs = unit["num_samples"] == 1 if is_size else unit["image_size"] == base
        if belongs and name in unit["candidates"]:
            value = unit["memory"][name]["peak_gib"] if is_memory else Measurement.from_dict(unit).median_s(name)
            points.append((unit["image_size"] ** 2 * unit["num_samples"] / 2**20, value))
    return points if len(points) > 1 else []
