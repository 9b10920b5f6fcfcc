"""The ablation as a picture: every row's difference to the segmentor alone, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from hidiff_monai.ablation.table import Line
from hidiff_monai.ablation.variants import ALONE, AS_BUNDLE
from hidiff_monai.report.canvas import THEMES, Theme, new_figure, plain, to_png

ROW_IN, HEAD_IN, FOOT_IN, GAP_IN = 0.27, 0.45, 0.35, 0.75


def draw_ablation(lines: Sequence[Line], theme: str = "light") -> bytes:
    """A row a line: its mask (dot and 95 % interval) and its own prior (square), trainings above other samplers.

    Args:
        lines: those of the table; the segmentor alone is the zero.
        theme: light or dark.
    """
    colours = THEMES[theme]
    baseline = next(line.prior for line in lines if line.name == ALONE)
    trainings = [line for line in lines if line.name != ALONE and line.sampling in ("", AS_BUNDLE.title)]
    others = [line for line in lines if line.sampling not in ("", AS_BUNDLE.title)]
    panels = [panel for panel in (trainings, others) if panel]
    heights = [ROW_IN * (len(panel) + 1) for panel in panels]
    height = HEAD_IN + sum(heights) + GAP_IN * (len(panels) - 1) + FOOT_IN
    figure = new_figure(9.2, height, colours)
    titles = ("Dice, points above the segmentor alone: mask (dot, 95 %), own prior (square)", "Other samplers")
    top = height - HEAD_IN
    for panel, panel_height, title in zip(panels, heights, titles, strict=False):
        axes = figure.add_axes((0.42, (top - panel_height) / height, 0.56, panel_height / height))
        _draw_rows(axes, panel, baseline, colours)
        axes.set_title(title, loc="right", color=colours.ink, fontsize=9.5)
        top -= panel_height + GAP_IN
    return to_png(figure)


def _draw_rows(axes: Axes, lines: Sequence[Line], baseline: float, colours: Theme) -> None:
    plain(axes, colours)
    for row, line in enumerate(lines):
        axes.plot(line.prior - baseline, row, "s", color=colours.prior, markersize=5, zorder=2)
        if not line.has_refiner:
            continue
        colour = colours.refined if line.difference >= 0 else colours.worse
        if line.interval is not None:
            axes.plot(line.interval, (row, row), "-", color=colour, linewidth=1.6, zorder=3)
        axes.plot(line.difference, row, "o", color=colour, markersize=6, zorder=4)
    axes.axvline(0, color=colours.ink, linewidth=0.9)
    axes.set_yticks(range(len(lines)), [_name(line) for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)


def _name(line: Line) -> str:
    parts = [line.title]
    if line.sampling == AS_BUNDLE.title:
        parts += [
            line.loss,
            "" if line.collaborates else "apart",
            "" if line.has_xformer else "no X-Former",
            "" if line.is_binarized else "real-valued",
        ]
    elif line.sampling:
        parts += [line.sampling]
    return ", ".join(part for part in parts if part)
