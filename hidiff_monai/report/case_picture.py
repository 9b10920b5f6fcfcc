"""One predicted case as one row of panels: image, prior, refined, what changed, errors against a label, uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from hidiff_monai.metrics import coin_toss_nats
from hidiff_monai.report.canvas import (
    DOTS_PER_INCH,
    HEAT,
    LIGHTBOX,
    Colour,
    colour_keys,
    heat_bar,
    new_figure,
    plain_text,
    to_png,
)
from hidiff_monai.report.class_maps import (
    OTHER_CLASS,
    class_colour,
    difference_keys,
    difference_map,
    overlay,
    resize_classes,
    resize_photo,
)

PANEL_PX = (300, 270)  # height and width that a panel may fill
SLOT_PX, GAP_PX, SIDE_PX, HEAD_PX, LINE_PX = 256, 10, 14, 36, 25  # a slot holds a panel, however narrow
FONT, LEGEND_FONT = 9, 8.5
KEY_PX, LETTER_PX = 42, 7.8  # what an entry of the legend takes up: its patch and gaps, and each letter
NOTABLE = 0.15  # share of a coin toss's uncertainty from which on a pixel must not be cut off
DIM_LEVELS = 20  # greys of the image under the masks; fewer make a smaller file
MAX_NAME = 26  # letters

DIFFERENCES = (  # title, what the refined mask is set against, legend
    ("changed by the refiner", "prior", difference_keys("added", "removed", "as before", "other class")),
    ("refined against label", "label", difference_keys("too much", "missed", "found", "other class")),
)


@dataclass(frozen=True)
class Panel:
    """A picture (h, w, 3), uint8, under its title, above its legend; `spans` says over how many panels that may run."""

    title: str
    picture: np.ndarray
    legend: Sequence[tuple[str, Colour]]
    spans: int = 1


def case_picture(
    picture: np.ndarray,
    prior: np.ndarray,
    refined: np.ndarray,
    entropy: np.ndarray,
    names: Sequence[str],
    label: np.ndarray | None = None,
) -> bytes:
    """A case as the bytes of a PNG file: its panels in a row, each with its legend.

    Where the structures fill a small part of the image, all panels but the first show that part, framed in the first.

    Args:
        picture: (H, W, 3), uint8.
        prior: (H, W), class numbers, 0 the background.
        refined: (H, W), likewise.
        entropy: (H, W), nats; the mean over the classes, with the background where there are several.
        names: of the classes 1, 2, ..., without the background.
        label: (H, W), class numbers, where there is one.

    Raises:
        ValueError: the shapes differ, or a mask holds a class without a name.
    """
    masks = {"prior": prior, "refined": refined} | ({} if label is None else {"label": label})
    _check(picture, masks, entropy, names)
    size = _panel_size(picture.shape[:2])
    top = coin_toss_nats(len(names))
    window = structures_window(np.any([mask > 0 for mask in masks.values()], axis=0) | (entropy > NOTABLE * top))
    shown = {key: resize_classes(mask[window], size) for key, mask in masks.items()}
    ground = _dimmed(resize_photo(np.ascontiguousarray(picture[window]), size))

    panels = [Panel(*_framed(picture, window, size), _class_keys(masks, names), spans=3)]
    panels += [Panel(key, overlay(ground, shown[key]), ()) for key in ("prior", "refined")]
    for title, reference, keys in DIFFERENCES:
        if reference in shown:
            legend = keys[: 4 if len(names) > 1 else 3]  # one class is confused with no other
            panels.append(Panel(title, difference_map(shown["refined"], shown[reference], ground), legend))
    panels.append(Panel("uncertainty", _heat(entropy[window] / top, size), ()))
    photo = np.concatenate([panel.picture for panel in panels[:3]], axis=1)
    colours = [OTHER_CLASS, *(colour for _, colour in panels[0].legend)]
    return to_png(_row(panels, size, top), photo, list(dict.fromkeys(colours)))


def structures_window(marked: np.ndarray) -> tuple[slice, slice]:
    """The part of an image to show: what is marked with a margin, in the image's own proportions.

    Args:
        marked: (H, W), bool.

    Returns:
        Slices of the rows and of the columns; the whole image where nothing is marked or little would be cut off.
    """
    if not marked.any():
        return slice(0, marked.shape[0]), slice(0, marked.shape[1])
    ends = [np.flatnonzero(marked.any(axis=axis))[[0, -1]] + (0, 1) for axis in (1, 0)]
    fraction = max((stop - start) / side for (start, stop), side in zip(ends, marked.shape, strict=True))
    fraction = max(1.35 * fraction, 24 / min(marked.shape))
    if fraction > 0.75:
        return slice(0, marked.shape[0]), slice(0, marked.shape[1])
    rows, columns = (
        _centred(start, stop, round(fraction * side), side)
        for (start, stop), side in zip(ends, marked.shape, strict=True)
    )
    return rows, columns


def _centred(start: int, stop: int, length: int, side: int) -> slice:
    first = min(max((start + stop - length) // 2, 0), side - length)
    return slice(first, first + length)


def _check(picture: np.ndarray, masks: Mapping[str, np.ndarray], entropy: np.ndarray, names: Sequence[str]) -> None:
    for key, array in {**masks, "entropy": entropy}.items():
        if array.shape != picture.shape[:2]:
            raise ValueError(
                f"{key} is {array.shape}; expected the picture's {picture.shape[:2]}: give one slice of each"
            )
    for key, mask in masks.items():
        if mask.max(initial=0) > len(names):
            raise ValueError(
                f"{key} holds class {mask.max()}; expected at most {len(names)}, as names: name each class"
            )


def _panel_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width at which an image fills a panel, pixels."""
    scale = min(PANEL_PX[0] / shape[0], PANEL_PX[1] / shape[1])
    return max(round(scale * shape[0]), 1), max(round(scale * shape[1]), 1)


def _dimmed(photo: np.ndarray) -> np.ndarray:
    """(h, w, 3) in a few dark greys, so that colours over it speak."""
    grey = photo.astype(float) @ (0.299, 0.587, 0.114) / 255
    levels = 0.72 * (grey * (DIM_LEVELS - 1)).round() / (DIM_LEVELS - 1)
    return np.repeat((255 * levels).astype(np.uint8)[..., None], 3, axis=-1)


def _framed(picture: np.ndarray, window: tuple[slice, slice], size: tuple[int, int]) -> tuple[str, np.ndarray]:
    """Title and picture of the whole image, the window framed in it unless it is all of it."""
    whole = resize_photo(picture, size).copy()
    if all(part == slice(0, side) for part, side in zip(window, picture.shape[:2], strict=True)):
        return "image", whole
    scale = size[0] / picture.shape[0]
    top, bottom, left, right = (round(scale * end) for part in window for end in (part.start, part.stop))
    frame = np.zeros(size, bool)
    frame[top:bottom, left:right] = True
    frame[top + 1 : bottom - 1, left + 1 : right - 1] = False
    whole[frame] = 255
    return "image; framed: the part shown", whole


def _class_keys(masks: Mapping[str, np.ndarray], names: Sequence[str]) -> list[tuple[str, Colour]]:
    """The classes that occur anywhere in the image."""
    numbers = np.unique(np.concatenate([np.unique(mask) for mask in masks.values()]))
    return [(_shortened(names[number - 1]), class_colour(number)) for number in map(int, numbers) if number > 0]


def _shortened(name: str) -> str:
    return plain_text(name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…")


def _heat(share: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Uncertainty as colour, from 0 to 1, a coin toss's. Returns (h, w, 3), uint8."""
    shown = resize_photo(np.ascontiguousarray(share, np.float32), size)
    steps = (63 * np.clip(shown, 0, 1)).round() / 63  # those the palette holds
    return (255 * colormaps[HEAT](steps)[..., :3]).round().astype(np.uint8)


def _row(panels: Sequence[Panel], size: tuple[int, int], top: float) -> Figure:
    """The panels side by side, placed to the pixel, and the scale of the uncertainty, 0 to the top, under the last."""
    slot = max(size[1], SLOT_PX)
    columns = [_legend_columns(panel, slot) for panel in panels]
    lines = [math.ceil(len(panel.legend) / number) for panel, number in zip(panels, columns, strict=True)]
    foot = LINE_PX * max(2, *lines) + GAP_PX
    width, height = 2 * SIDE_PX + len(panels) * (slot + GAP_PX) - GAP_PX, HEAD_PX + size[0] + foot
    figure = new_figure(width / DOTS_PER_INCH, height / DOTS_PER_INCH, LIGHTBOX)
    for i, panel in enumerate(panels):
        left = SIDE_PX + i * (slot + GAP_PX)
        figure.figimage(panel.picture, left + (slot - size[1]) // 2, foot, origin="upper")
        figure.text(
            (left + slot / 2) / width, 1 - 0.75 * HEAD_PX / height, panel.title, color=LIGHTBOX.ink, fontsize=FONT,
            horizontalalignment="center",
        )  # fmt: skip
        figure.legend(
            handles=colour_keys(panel.legend), loc="upper left", ncols=columns[i],
            bbox_to_anchor=(left / width, (foot - 2) / height), frameon=False, fontsize=LEGEND_FONT,
            labelcolor=LIGHTBOX.ink, handlelength=1.0, handleheight=1.0, columnspacing=1.0, borderpad=0.3,
            handletextpad=0.5, borderaxespad=0.2,
        )  # fmt: skip
    heat_bar(figure, left / width, slot / width, top, bottom_in=(foot - 28) / DOTS_PER_INCH)
    return figure


def _legend_columns(panel: Panel, slot: int) -> int:
    letters = max((len(name) for name, _ in panel.legend), default=1)
    return max(1, int(panel.spans * slot / (KEY_PX + LETTER_PX * letters)))
