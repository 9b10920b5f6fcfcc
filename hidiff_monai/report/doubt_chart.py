"""Whether the uncertainty of a run means something: uncertainty against Dice, where there are labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hidiff_monai.report.canvas import THEMES, new_figure, plain, plain_text, to_png

NAMED, MOST_DOTS_WITH_NAMES = 3, 30


def doubt_chart(cases: Sequence[str], uncertainty: np.ndarray, dice: np.ndarray, theme: str = "light") -> bytes:
    """A dot a case; where there are few, those with the lowest Dice are named.

    Args:
        cases: names, N.
        uncertainty: (N,), nats a foreground pixel.
        dice: (N,), in [0, 1].
        theme: light or dark.
    """
    colours = THEMES[theme]
    figure = new_figure(9.2, 3.6, colours)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.055, right=0.985, top=0.91, bottom=0.14)
    plain(axes, colours)
    axes.scatter(uncertainty, 100 * dice, s=34, color=colours.refined, alpha=0.75, linewidth=0)
    middle = (uncertainty.min() + uncertainty.max()) / 2
    named = np.argsort(dice, kind="stable")[: NAMED if len(cases) <= MOST_DOTS_WITH_NAMES else 0]
    for i in named:
        is_right = uncertainty[i] > middle  # the name stays inside
        axes.annotate(
            plain_text(cases[i]), (uncertainty[i], 100 * dice[i]), xytext=(-7 if is_right else 7, 0),
            textcoords="offset points", ha="right" if is_right else "left", va="center", fontsize=8, color=colours.ink,
        )  # fmt: skip
    axes.margins(x=0.04, y=0.1)
    axes.set_title("Dice of the refined mask, %", loc="left", color=colours.ink, fontsize=10)
    axes.set_xlabel("uncertainty, nats a foreground pixel", color=colours.ink, fontsize=9)
    return to_png(figure)
