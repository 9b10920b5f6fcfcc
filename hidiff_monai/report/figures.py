"""The figures of the report, each as the bytes of a PNG.

Pictures (`overview`, `trajectory`, `photograph`) lie on a dark ground like on a light box, in either theme of the page;
charts (`training_curves`, `paired_dice`) are drawn once a theme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from hidiff_monai.metrics import coin_toss_nats
from hidiff_monai.report.canvas import (
    ERROR_COLOURS,
    HEAT,
    LIGHTBOX,
    THEMES,
    Theme,
    busiest_window,
    colour_keys,
    error_map,
    frame,
    heat_bar,
    new_figure,
    palette_png,
    picture_palette,
    plain,
    plain_text,
    to_png,
)

Arrays = Mapping[str, np.ndarray]
PANEL_IN, GAP_IN = 2.3, 0.08
MAX_STEPS_SHOWN = 10


def overview(arrays: Arrays) -> bytes:
    """One case from image to result, and below it the part where the refiner changed the mask most.

    Args:
        arrays: a case of the evaluation folder: image (H, W, 3) uint8; label, region (H, W); prior, refined (H, W)
            probabilities; entropy (H, W) in nats; threshold, that of both or (2,), of prior and refined; where the
            entropy is a mean over classes, coin_toss_nats, what a coin toss has of it.
    """
    top = float(arrays.get("coin_toss_nats", coin_toss_nats(1)))
    prior, refined = masks(arrays)
    errors = error_map(refined, arrays["label"] > 0, arrays["region"] > 0)
    pictures = {
        "image": arrays["image"],
        "prior": arrays["prior"],
        "refined": arrays["refined"],
        "error of the refined mask": errors,
        "uncertainty": arrays["entropy"],
    }
    figure, axes = _two_rows(pictures, busiest_window((prior != refined) & (arrays["region"] > 0), fraction=4), top)
    patches = colour_keys(ERROR_COLOURS.items())
    middle = axes[1][3].get_position()
    figure.legend(
        handles=patches, loc="lower right", ncols=3, frameon=False, fontsize=8.5, labelcolor=LIGHTBOX.ink,
        bbox_to_anchor=(middle.x1 + 0.008, 0.0), handlelength=1.0, handleheight=1.0, columnspacing=1.4,
    )  # fmt: skip
    return to_png(figure, arrays["image"])


def photograph(arrays: Arrays) -> bytes:
    """An image without a label: what the model makes of it, and how sure it is.

    Args:
        arrays: image (H, W, 3) uint8; prior, refined (H, W) probabilities; entropy (H, W) in nats.
    """
    pictures = {
        "image": arrays["image"],
        "prior": arrays["prior"],
        "refined": arrays["refined"],
        "uncertainty": arrays["entropy"],
    }
    figure, _ = _two_rows(pictures, busiest_window(arrays["entropy"], fraction=4), coin_toss_nats(1))
    return to_png(figure, arrays["image"])


def trajectory(arrays: Arrays) -> bytes:
    """The reverse chain: each state y_t with the estimate of y_0 that the refiner reads from it, noisiest first.

    Args:
        arrays: image (H, W, 3) uint8; states (T+1, H, W) in {0, 1}; estimates (T, H, W) in [0, 1]; timesteps (T,). Of
            more than ten steps, ten are shown, first and last included. The pictures show the part that changes most.
    """
    states, estimates = arrays["states"].astype(float), arrays["estimates"]
    window = busiest_window(np.abs(states - states[-1]).sum(0), fraction=3)
    shown = np.unique(np.linspace(0, len(estimates) - 1, min(len(estimates), MAX_STEPS_SHOWN)).round().astype(int))
    cells = [("image", arrays["image"], arrays["image"][window])]
    cells += [(f"t = {arrays['timesteps'][i]}", states[i][window], estimates[i][window]) for i in shown]
    cells += [("result", states[-1][window], arrays["label"][window] > 0)]

    columns = min(6, len(cells))
    figure, grid = _grid(2 * math.ceil(len(cells) / columns), columns, _aspect(arrays["image"]), row_gap_in=0.28)
    for axes in grid.flat:
        axes.set_visible(False)
    for i, (name, top, bottom) in enumerate(cells):
        upper, lower = grid[2 * (i // columns), i % columns], grid[2 * (i // columns) + 1, i % columns]
        names = {"image": ("image", "the part shown"), "result": ("last state", "label")}
        titles = names.get(name, (f"{name}: state $y_t$", r"estimate $\hat y_0$"))
        for axes, picture, title in ((upper, top, titles[0]), (lower, bottom, titles[1])):
            axes.set_visible(True)
            _show(axes, picture, title)
    _mark(grid[0, 0], window)
    return to_png(figure, arrays["image"])


def thumbnail(arrays: Arrays, width: int = 88) -> bytes:
    """The error map of the refined mask, `width` pixels wide, for the table of cases."""
    errors = error_map(masks(arrays)[1], arrays["label"] > 0, arrays["region"] > 0)
    picture = Image.fromarray(errors).resize((width, round(width * _aspect(errors))), Image.Resampling.BOX)
    return palette_png(picture, picture_palette(errors))


def training_curves(history: Sequence[Mapping[str, Any]], theme: str = "light") -> bytes:
    """Losses and validation Dice by epoch, the phases of training shaded.

    Args:
        history: rows with epoch, phase, loss_segmentor, loss_refiner, val_dice_prior, val_dice_refined; None or NaN
            where a value does not exist.
        theme: light or dark.
    """
    colours = THEMES[theme]
    figure = new_figure(11.6, 3.5, colours)
    losses, dice = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.04, right=0.99, top=0.84, bottom=0.14, wspace=0.12)
    for axes, title, names, scale in (
        (losses, "Training loss", ("loss_segmentor", "loss_refiner"), 1.0),
        (dice, "Dice on the validation images, %", ("val_dice_prior", "val_dice_refined"), 100.0),
    ):
        plain(axes, colours)
        axes.set_title(title, loc="left", color=colours.ink, fontsize=10, pad=18)
        axes.set_xlabel("epoch", color=colours.ink, fontsize=9)
        curves = [_curve(axes, history, name, scale, colours) for name in names]
        values = np.concatenate(curves)
        if title == "Training loss" and values.size and values.min() > 0 and values.max() > 20 * values.min():
            axes.set_yscale("log")
        _shade_phases(axes, history, colours)
        axes.legend(frameon=False, fontsize=8.5, labelcolor=colours.ink)
    return to_png(figure)


def paired_dice(
    cases: Sequence[str],
    prior: np.ndarray,
    refined: np.ndarray,
    interval: tuple[float, float] | None = None,
    theme: str = "light",
) -> bytes:
    """Each case twice: its Dice as prior and refined (left), its gain (right).

    Args:
        cases: names, N.
        prior: (N,), Dice in [0, 1].
        refined: (N,), Dice in [0, 1].
        interval: bounds of the interval of the mean gain, drawn as a band.
        theme: light or dark.
    """
    colours, gain = THEMES[theme], 100 * (refined - prior)
    figure = new_figure(11.6, 4.2, colours)
    left, right = figure.subplots(1, 2, width_ratios=(2, 5))
    figure.subplots_adjust(left=0.04, right=0.99, top=0.92, bottom=0.13, wspace=0.12)
    _slopes(left, 100 * prior, 100 * refined, colours)
    _lollipops(right, cases, gain, colours)
    if interval is not None:
        right.axhspan(100 * interval[0], 100 * interval[1], color=colours.refined, alpha=0.14, linewidth=0)
    right.axhline(gain.mean(), color=colours.refined, linewidth=1.2, linestyle=(0, (5, 3)))
    right.set_title(
        "Gain in Dice of each case, points (dashed: mean; band: its 95 % interval)", loc="left", color=colours.ink,
        fontsize=10,
    )  # fmt: skip
    return to_png(figure)


def _slopes(axes: Axes, prior: np.ndarray, refined: np.ndarray, colours: Theme) -> None:
    plain(axes, colours)
    for a, b in zip(prior, refined, strict=True):
        colour = colours.refined if b >= a else colours.worse
        axes.plot((0, 1), (a, b), "-o", color=colour, alpha=0.55, linewidth=1, markersize=3.5, markeredgewidth=0)
    axes.plot((0, 1), (prior.mean(), refined.mean()), "-o", color=colours.ink, linewidth=2.2, markersize=6)
    axes.set_xlim(-0.18, 1.18)
    axes.set_xticks((0, 1), ("prior", "refined"))
    axes.set_title("Dice, % (thick: mean)", loc="left", color=colours.ink, fontsize=10)


def _lollipops(axes: Axes, cases: Sequence[str], gain: np.ndarray, colours: Theme) -> None:
    plain(axes, colours)
    order = np.argsort(-gain, kind="stable")
    marks = [colours.refined if gain[i] >= 0 else colours.worse for i in order]
    axes.vlines(range(len(order)), 0, gain[order], colors=marks, linewidth=1.6)
    axes.scatter(range(len(order)), gain[order], c=marks, s=26, zorder=3)
    axes.axhline(0, color=colours.ink, linewidth=0.9)
    axes.set_xlim(-0.8, len(order) - 0.2)
    if len(order) <= 40:
        longest = max(len(case) for case in cases)
        axes.set_xticks(range(len(order)), [plain_text(cases[i]) for i in order], rotation=90 if longest > 3 else 0)
    else:
        axes.set_xticks([])
    axes.set_xlabel("case", color=colours.ink, fontsize=9)


def _curve(axes: Axes, history: Sequence[Mapping[str, Any]], name: str, scale: float, colours: Theme) -> np.ndarray:
    """Draw the existing values of one column and return them."""
    points = [(row["epoch"], row[name]) for row in history if row.get(name) is not None and np.isfinite(row[name])]
    epochs, values = np.array(points, float).reshape(-1, 2).T
    is_refiner = name.endswith(("refiner", "refined"))
    label = name.rsplit("_", 1)[-1]
    colour, marker = (colours.refined, "o") if is_refiner else (colours.prior, "s")
    marker_size = 3.5 if len(points) < 40 else 0
    axes.plot(epochs, scale * values, marker=marker, color=colour, label=label, markersize=marker_size, linewidth=1.7)
    return values


def _shade_phases(axes: Axes, history: Sequence[Mapping[str, Any]], colours: Theme) -> None:
    """Shade every second run of epochs that share a phase, and name each."""
    starts = [i for i, row in enumerate(history) if i == 0 or row["phase"] != history[i - 1]["phase"]]
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(history)], strict=True)):
        low, high = history[start]["epoch"] - 0.5, history[stop - 1]["epoch"] + 0.5
        if number % 2:
            axes.axvspan(low, high, color=colours.faint, alpha=0.35, linewidth=0)
        axes.text(
            low, 1.005, f" {history[start]['phase']}", transform=axes.get_xaxis_transform(), va="bottom",
            fontsize=7.5, color=colours.prior, ha="left",
        ).set_visible(len(starts) <= 8)  # fmt: skip
    axes.set_xlim(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5)


def _two_rows(pictures: Arrays, window: tuple[slice, slice], top: float) -> tuple[Figure, np.ndarray]:
    """Whole pictures above, the window framed in each of them below; the last is the uncertainty, from 0 to its top."""
    figure, grid = _grid(2, len(pictures), _aspect(pictures["image"]), foot_in=0.42)
    for i, (name, picture) in enumerate(pictures.items()):
        heat_top = top if name == "uncertainty" else None
        _show(grid[0, i], picture, name, heat_top)
        _show(grid[1, i], picture[window], "", heat_top)
        _mark(grid[0, i], window)
    place = grid[1, -1].get_position()
    heat_bar(figure, place.x0, place.width, top)
    return figure, grid


def _grid(
    rows: int, columns: int, aspect: float, row_gap_in: float = GAP_IN, foot_in: float = 0.1
) -> tuple[Figure, np.ndarray]:
    """Panels of one size, placed to the inch. Returns the figure and the axes, (rows, columns)."""
    side_in, head_in, panel_height_in = 0.12, 0.32, PANEL_IN * aspect
    width_in = 2 * side_in + columns * PANEL_IN + (columns - 1) * GAP_IN
    height_in = head_in + rows * panel_height_in + (rows - 1) * row_gap_in + foot_in
    figure = new_figure(width_in, height_in, LIGHTBOX)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=side_in / width_in, right=1 - side_in / width_in, top=1 - head_in / height_in,
        bottom=foot_in / height_in, wspace=GAP_IN / PANEL_IN, hspace=row_gap_in / panel_height_in,
    )  # fmt: skip
    return figure, grid


def _show(axes: Axes, picture: np.ndarray, title: str, heat_top: float | None = None) -> None:
    """Draw a colour picture as it is, a probability from black to white, an uncertainty as heat up to its top."""
    frame(axes, LIGHTBOX)
    axes.set_title(title, color=LIGHTBOX.ink, fontsize=9, pad=4)
    if heat_top is not None:
        axes.imshow(picture, cmap=HEAT, vmin=0, vmax=heat_top, aspect="auto")
    else:
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto")  # (H, W, 3) is drawn as it is


def _mark(axes: Axes, window: tuple[slice, slice]) -> None:
    rows, columns = window
    corner = (columns.start - 0.5, rows.start - 0.5)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=LIGHTBOX.ink, linewidth=0.9))


def masks(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Prior and refined mask of a case, (H, W) bool."""
    if "refined_mask" in arrays:
        return arrays["prior_mask"].astype(bool), arrays["refined_mask"].astype(bool)
    of_prior, of_refined = np.broadcast_to(arrays["threshold"], 2)
    return arrays["prior"] > of_prior, arrays["refined"] > of_refined


def _aspect(picture: np.ndarray) -> float:
    return picture.shape[0] / picture.shape[1]
