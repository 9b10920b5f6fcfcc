"""Dice against seconds of the sampler's settings: what more time buys."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hidiff_monai.report.canvas import DOTS_PER_INCH, THEMES, Theme, new_figure, plain, to_png

NEAR, FEWEST_NEAR = 0.01, 3  # in Dice; settings
LABEL_SIZE = 8.5
CHARACTERS = 84  # of the title that a panel is wide enough for

Box = tuple[float, float, float, float]  # left, bottom, right, top


class DialPoint(NamedTuple):
    """A setting in the picture.

    Attributes:
        kind: "prior", "hard", "ddim" or "ddpm".
        label: what stands beside it.
        seconds: a case.
        dice: mean, in [0, 1].
    """

    kind: str
    label: str
    seconds: float
    dice: float


def pareto_front(points: Sequence[DialPoint]) -> list[int]:
    """The settings better than everything that is at least as fast: their numbers, fastest first."""
    front: list[int] = []
    for number in sorted(range(len(points)), key=lambda i: (points[i].seconds, -points[i].dice)):
        if not front or points[number].dice > points[front[-1]].dice:
            front.append(number)
    return front


def dial_chart(points: Sequence[DialPoint], title: str, theme: str = "light") -> bytes:
    """A mark a setting, as the bytes of a PNG: the prior as a line, the Pareto front as steps.

    Beside all settings stand those near the best one, where they are not all of them: there the choice is made.

    Args:
        points: of all settings.
        title: data and machine.
        theme: light or dark.
    """
    colours = THEMES[theme]
    best = max(point.dice for point in points)
    near = [point for point in points if point.dice > best - NEAR]
    panels = [points, near] if FEWEST_NEAR <= len(near) < len(points) else [points]
    figure = new_figure(6.4 * len(panels), 4.8, colours)
    figure.subplots_adjust(left=0.5 / (6.4 * len(panels)), right=0.985, top=0.84, bottom=0.2, wspace=0.11)
    titles = ("all settings", f"within {100 * NEAR:g} point of the best")
    for axes, shown, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, titles, strict=False):
        _draw_settings(axes, shown, colours)
        axes.set_title(name, loc="left", color=colours.ink, fontsize=9.5)
    lines = wrap(f"Dice of the mask, %: {title}", CHARACTERS * len(panels))
    figure.text(0.012, 0.98, "\n".join(lines), color=colours.ink, fontsize=10, va="top")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, fontsize=8.5, labelcolor=colours.ink, loc="lower center",
        ncols=5 if len(panels) > 1 else 3,
    )  # fmt: skip
    return to_png(figure)


def _draw_settings(axes: Axes, points: Sequence[DialPoint], colours: Theme) -> None:
    plain(axes, colours)
    axes.set_xscale("log")
    _draw_front(axes, points, colours)
    looks = {
        "prior": (colours.prior, "D", "prior alone"),
        "hard": (colours.refined, "o", "hard decisions: steps"),
        "ddim": (colours.worse, "s", "mean of DDIM chains: steps × chains"),
        "ddpm": (colours.other, "^", "mean of DDPM chains"),
    }
    for kind, (colour, marker, name) in looks.items():
        chosen = [point for point in points if point.kind == kind]
        xs, ys = [point.seconds for point in chosen], [100 * point.dice for point in chosen]
        if kind == "prior" and chosen:
            axes.axhline(ys[0], color=colour, linewidth=1.0, linestyle=(0, (5, 3)))
        if chosen:
            axes.scatter(xs, ys, s=36, color=colour, marker=marker, linewidth=0, label=name, zorder=3)
    axes.margins(x=0.09, y=0.14)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds a case, inference alone", color=colours.ink, fontsize=9)
    _write_labels(axes, points, colours)


def _draw_front(axes: Axes, points: Sequence[DialPoint], colours: Theme) -> None:
    """What is best within each time."""
    front = [points[number] for number in pareto_front(points)]
    xs, ys = [point.seconds for point in front], [100 * point.dice for point in front]
    xs.append(max(point.seconds for point in points))
    name = "best within a time"
    axes.plot(xs, [*ys, ys[-1]], drawstyle="steps-post", color=colours.refined, alpha=0.45, label=name)


def _write_labels(axes: Axes, points: Sequence[DialPoint], colours: Theme) -> None:
    """Each label above its mark, or where that is taken on another side of it."""
    axes.autoscale_view()
    pixel = DOTS_PER_INCH / 72
    marks = [axes.transData.transform((point.seconds, 100 * point.dice)) for point in points]
    taken = [_box(mark, 0.0, 0.0, 8 * pixel, 8 * pixel) for mark in marks]
    for point, mark in zip(points, marks, strict=True):
        width, height = 0.6 * LABEL_SIZE * pixel * len(point.label), 1.1 * LABEL_SIZE * pixel
        aside = (width + 12 * pixel) / 2
        sides = [(0.0, 11 * pixel), (0.0, -11 * pixel), (aside, 0.0), (-aside, 0.0)]
        sides += [(aside, 9 * pixel), (-aside, 9 * pixel), (aside, -9 * pixel), (-aside, -9 * pixel)]
        boxes = [_box(mark, x, y, width, height) for x, y in sides]
        free = [k for k, box in enumerate(boxes) if not any(_overlap(box, other) for other in taken)]
        chosen = free[0] if free else 0
        taken.append(boxes[chosen])
        offset = (sides[chosen][0] / pixel, sides[chosen][1] / pixel)
        axes.annotate(
            point.label, (point.seconds, 100 * point.dice), xytext=offset, textcoords="offset points", ha="center",
            va="center", fontsize=LABEL_SIZE, color=colours.ink,
        )  # fmt: skip


def _box(mark: np.ndarray, x: float, y: float, width: float, height: float) -> Box:
    """Of a text in pixels, its middle so far from a mark."""
    return mark[0] + x - width / 2, mark[1] + y - height / 2, mark[0] + x + width / 2, mark[1] + y + height / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
