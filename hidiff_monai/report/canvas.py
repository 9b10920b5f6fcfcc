"""What every figure shares: colours, the step from a Figure to PNG bytes, and the pictures made from masks."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

DOTS_PER_INCH = 130
HEAT = "inferno"

Colour = tuple[int, int, int]

# Okabe and Ito's colours: told apart with every common kind of colour blindness. Keys as in the legend, values RGB.
ERROR_COLOURS = {
    "true positive": (218, 218, 214),
    "false positive": (230, 159, 0),
    "false negative": (86, 180, 233),
}
OUTSIDE_REGION = (40, 43, 48)


@dataclass(frozen=True)
class Theme:
    """Colours of a figure: `ground` behind it, `ink` for text, `faint` for lines that should not speak."""

    ground: str
    ink: str
    faint: str
    prior: str
    refined: str
    worse: str
    other: str


THEMES = {
    "light": Theme("#ffffff", "#22262b", "#d5d8dc", "#7d838b", "#0067a3", "#c24e00", "#6d3fa0"),
    "dark": Theme("#191d22", "#dfe2e6", "#3a4048", "#9aa1aa", "#5fb8ec", "#ee8a4a", "#b795e6"),
}
LIGHTBOX = Theme("#101010", "#dfe2e6", "#4a515a", "#9aa1aa", "#5fb8ec", "#ee8a4a", "#b795e6")


def new_figure(width_in: float, height_in: float, theme: Theme) -> Figure:
    """An empty figure in the colours of the theme, tied to the Agg canvas and to no global state."""
    figure = Figure(figsize=(width_in, height_in), dpi=DOTS_PER_INCH, facecolor=theme.ground)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, photo: np.ndarray | None = None, colours: Sequence[Colour] = ()) -> bytes:
    """The figure as the bytes of a PNG file with a palette, a quarter of the size without one.

    Args:
        figure: from `new_figure`.
        photo: (H, W, 3), uint8, the picture whose colours the figure needs beside the fixed ones; None lets Pillow
            choose all 256 colours, enough for a chart.
        colours: more that must stay true, as RGB.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    picture = Image.frombytes("RGBA", figure.canvas.get_width_height(), buffer.getvalue()).convert("RGB")
    return palette_png(picture, None if photo is None else picture_palette(photo, colours))


def palette_png(picture: Image.Image, palette: Image.Image | None) -> bytes:
    """An RGB picture as the bytes of a PNG file, in the colours of the palette or in 256 of its own."""
    buffer = io.BytesIO()
    picture.quantize(256, palette=palette, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def picture_palette(photo: np.ndarray, colours: Sequence[Colour] = ()) -> Image.Image:
    """A palette that keeps the legend true: error colours, greys and heat as they are, the rest for the photo.

    Args:
        photo: (H, W, 3), uint8.
        colours: more to keep as they are, as RGB.
    """
    heat = (255 * colormaps[HEAT](np.linspace(0, 1, 64))[:, :3]).round()
    greys = np.repeat(np.linspace(0, 255, 48).round()[:, None], 3, axis=1)
    flat = np.array([*ERROR_COLOURS.values(), OUTSIDE_REGION, *colours])
    fixed = np.concatenate([flat, heat, greys]).astype(np.uint8)
    free = Image.fromarray(photo).quantize(256 - len(fixed)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed.ravel().tolist(), *free])
    return palette


def frame(axes: Axes, theme: Theme) -> None:
    """Make an image panel: no ticks, a thin border."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(theme.faint)
        spine.set_linewidth(0.8)


def colour_keys(keys: Iterable[tuple[str, Colour]]) -> list[Patch]:
    """The handles of a legend: a patch a name."""
    return [Patch(color="#" + bytes(rgb).hex(), label=name) for name, rgb in keys]


def heat_bar(figure: Figure, left: float, width: float, top: float, bottom_in: float = 0.24) -> None:
    """The scale of an uncertainty at the foot of a figure.

    Args:
        figure: its pictures use `HEAT` from 0 to the top.
        left: of the panel that it belongs to, as a fraction of the figure's width.
        width: of that panel, likewise.
        top: what a coin toss has, in nats, see `coin_toss_nats`.
        bottom_in: above the figure's lower edge; the text hangs below it.
    """
    height_in = figure.get_figheight()
    bar = figure.add_axes((left + 0.06 * width, bottom_in / height_in, 0.88 * width, 0.08 / height_in))
    heat = ScalarMappable(Normalize(0, top), HEAT)
    figure.colorbar(heat, cax=bar, orientation="horizontal", ticks=(0, top))
    bar.set_xticklabels(("0 sure", f"{top:.2f} nats: a coin toss"), color=LIGHTBOX.ink, fontsize=8)
    bar.get_xticklabels()[0].set_horizontalalignment("left")
    bar.get_xticklabels()[1].set_horizontalalignment("right")
    bar.tick_params(length=0, pad=2)
    bar.spines[:].set_visible(False)


def plain(axes: Axes, theme: Theme) -> None:
    """Make a chart: two spines, quiet ticks, horizontal guide lines."""
    axes.set_facecolor(theme.ground)
    axes.tick_params(which="both", colors=theme.ink, length=0, labelsize=8.5)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.faint)
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)


def error_map(prediction: np.ndarray, label: np.ndarray, region: np.ndarray | None = None) -> np.ndarray:
    """Colour each pixel by how the prediction fares against the label.

    Args:
        prediction: (H, W), bool.
        label: (H, W), bool.
        region: (H, W), bool; what lies outside is not scored and drawn in one flat grey.

    Returns:
        (H, W, 3), uint8; black where both are background.
    """
    picture = np.zeros((*label.shape, 3), np.uint8)
    picture[prediction & label] = ERROR_COLOURS["true positive"]
    picture[prediction & ~label] = ERROR_COLOURS["false positive"]
    picture[~prediction & label] = ERROR_COLOURS["false negative"]
    if region is not None:
        picture[~region] = OUTSIDE_REGION
    return picture


def busiest_window(amount: np.ndarray, fraction: int) -> tuple[slice, slice]:
    """The window, 1/fraction of each side, over which `amount` sums highest.

    Args:
        amount: (H, W), not negative.
        fraction: how many windows would fit along a side; the window is never under 8 pixels.

    Returns:
        Slices of the rows and of the columns.
    """
    H, W = amount.shape
    height, width = (min(side, max(8, side // fraction)) for side in (H, W))
    total = np.pad(amount.astype(float), ((1, 0), (1, 0))).cumsum(0).cumsum(1)  # (H+1, W+1), sums from the corner
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return slice(row, row + height), slice(column, column + width)


def plain_text(name: str) -> str:
    """A case's name without what Matplotlib would take for mathematics, cut short."""
    return (name if len(name) <= 32 else name[:31] + "…").replace("$", r"\$")
