"""The ablation as a picture: every row's difference to the segmentor alone, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from hidiff_monai.ablation.table import Line
from hidiff_monai.ablation.variants import ALONE
from hidiff_monai.report.canvas import THEMES, new_figure, plain, to_png

ROW_IN = 0.27


def draw_ablation(lines: Sequence[Line], theme: str = "light") -> bytes:
    """A row a line, from top to bottom: its mask (dot and 95 % interval) and its own prior (square).

    Args:
        lines: those of the table; the segmentor alone is the zero.
        theme: light or dark.
    """
    colours = THEMES[theme]
    shown = [line for line in lines if line.name != ALONE]
    baseline = next(line.prior for line in lines if line.name == ALONE)
    height = 0.9 + ROW_IN * len(shown)
    figure = new_figure(9.2, height, colours)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.42, right=0.98, top=1 - 0.42 / height, bottom=0.45 / height)
    plain(axes, colours)
    for row, line in enumerate(shown):
        axes.plot(line.prior - baseline, row, "s", color=colours.prior, markersize=5, zorder=2)
        if not line.has_refiner:
            continue
        colour = colours.refined if line.difference >= 0 else colours.worse
        if line.interval is not None:
            axes.plot(line.interval, (row, row), "-", color=colour, linewidth=1.6, zorder=3)
        axes.plot(line.difference, row, "o", color=colour, markersize=6, zorder=4)
    axes.axvline(0, color=colours.ink, linewidth=0.9)
    axes.set_yticks(range(len(shown)), [_name(line) for line in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_title(
        "Dice, points above the segmentor trained as long alone: mask (dot, 95 % interval), own prior (square)",
        loc="right", color=colours.ink, fontsize=9.5,
    )  # fmt: skip
    return to_png(figure)


def _name(line: Line) -> str:
    if not line.has_refiner:
        return line.title
    parts = [
        line.title,
        line.loss,
        "" if line.collaborates else "apart",
        "" if line.has_xformer else "no X-Former",
        "" if line.is_binarized else "real-valued",
        "" if line.sampling == "the bundle's" else line.sampling,
    ]
    return ", ".join(part for part in parts if part)
