"""Charts of calibration: what a probability is worth, and whether the uncertainty finds the errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from hidiff_monai.metrics import ReliabilityBins, ideal_curve
from hidiff_monai.report.canvas import THEMES, Theme, new_figure, plain, to_png

WIDTH_IN, HEIGHT_IN = 11.6, 3.9
STYLES = {"prior": "s", "refined": "o"}  # markers


def reliability_chart(bins: Mapping[str, ReliabilityBins], theme: str = "light") -> bytes:
    """Share of structure against probability (left), and how many pixels each bin holds, on a log scale (right).

    Args:
        bins: of *prior* and *refined*, pooled.
        theme: light or dark.
    """
    colours = THEMES[theme]
    figure = new_figure(WIDTH_IN, HEIGHT_IN, colours)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    figure.subplots_adjust(left=0.045, right=0.985, top=0.91, bottom=0.14, wspace=0.14)
    draw_reliability(left, bins, colours)
    plain(right, colours)
    for number, (method, found) in enumerate(bins.items()):
        width = np.diff(found.edges) / (len(bins) + 0.6)
        places = found.edges[:-1] + (number + 0.3) * width
        right.bar(places, found.counts, width, align="edge", color=getattr(colours, method), label=method)
    right.set_yscale("log")
    fewest = min(found.counts[found.counts > 0].min() for found in bins.values())
    right.set_ylim(bottom=10 ** np.floor(np.log10(fewest)))
    right.set_xlim(0, 1)
    right.set_title("Pixels at each probability (log scale)", loc="left", color=colours.ink, fontsize=10)
    right.set_xlabel("probability of structure", color=colours.ink, fontsize=9)
    return to_png(figure)


def retention_chart(curve: np.ndarray, theme: str = "light") -> bytes:
    """The error-retention curve (left); the same as errors caught against pixels looked at again (right).

    Args:
        curve: R at evenly spaced shares of retained pixels, 0 to 1; the last one is the error rate.
        theme: light or dark.
    """
    colours = THEMES[theme]
    figure = new_figure(WIDTH_IN, HEIGHT_IN, colours)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.045, right=0.985, top=0.91, bottom=0.14, wspace=0.12)
    draw_retention(left, curve, colours)
    draw_caught(right, curve, colours)
    return to_png(figure)


def draw_reliability(axes: Axes, bins: Mapping[str, ReliabilityBins], colours: Theme) -> None:
    """A point a filled bin; on the diagonal, a probability is what it says."""
    plain(axes, colours)
    axes.plot((0, 1), (0, 1), color=colours.ink, linewidth=0.9, linestyle=(0, (5, 3)))
    for method, found in bins.items():
        is_filled = found.counts > 0
        axes.plot(
            found.mean_probability[is_filled], found.frequency[is_filled], marker=STYLES[method], markersize=4.5,
            color=getattr(colours, method), linewidth=1.6, label=method,
        )  # fmt: skip
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_title("Share of pixels that are structure", loc="left", color=colours.ink, fontsize=10)
    axes.set_xlabel("probability of structure", color=colours.ink, fontsize=9)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=colours.ink, loc="upper left")


def draw_retention(axes: Axes, curve: np.ndarray, colours: Theme) -> None:
    """Errors among the surest pixels, between those of the best order and of none."""
    plain(axes, colours)
    retained = np.linspace(0, 1, len(curve))
    _three_lines(axes, retained, 100 * np.stack([curve, ideal_curve(curve[-1]), curve[-1] * retained]), colours)
    axes.set_title("Errors that remain, % of all pixels", loc="left", color=colours.ink, fontsize=10)
    axes.set_xlabel("share of pixels kept, the surest first; the rest is corrected", color=colours.ink, fontsize=9)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=colours.ink, loc="upper left")


def draw_caught(axes: Axes, curve: np.ndarray, colours: Theme) -> None:
    """Share of the errors among the least sure pixels."""
    plain(axes, colours)
    looked_at = np.linspace(0, 1, len(curve))
    ideal = ideal_curve(curve[-1])
    lines = [errors_caught(values) for values in (curve, ideal)]
    _three_lines(axes, looked_at, 100 * np.stack([*lines, looked_at]), colours)
    axes.set_title("Errors caught, %", loc="left", color=colours.ink, fontsize=10)
    axes.set_xlabel("share of pixels looked at again, the least sure first", color=colours.ink, fontsize=9)


def errors_caught(curve: np.ndarray) -> np.ndarray:
    """Share of all errors among the least sure 0, 1/(N-1), ... 1 of the pixels; 0 where there are no errors."""
    return 1 - curve[::-1] / curve[-1] if curve[-1] > 0 else np.zeros(len(curve))


def _three_lines(axes: Axes, places: np.ndarray, values: np.ndarray, colours: Theme) -> None:
    axes.plot(places, values[2], color=colours.worse, linewidth=1.2, linestyle=(0, (2, 2)), label="at random")
    axes.plot(places, values[1], color=colours.ink, linewidth=1.2, linestyle=(0, (5, 3)), label="ideal")
    axes.plot(places, values[0], color=colours.refined, linewidth=2, label="by uncertainty")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
