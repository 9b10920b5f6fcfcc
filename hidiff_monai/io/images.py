"""Colour and grey pictures as a person sees them, and masks back on the grid of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from hidiff_monai.io.files import write_atomically

DARKEST = 64  # of 255: 14 bits in a file of 16 fill as much, 12 bits a quarter of it
DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "F")
BITS, PLANES, APART = 258, 284, 2  # tags of TIFF, and the value of one
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and its value for negatives: Pillow turns those of 8 bits alone
# how a picture as it is shown becomes the picture as it is stored, by the value of its EXIF orientation
TO_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class Photograph(NamedTuple):
    """A picture, upright.

    Attributes:
        pixels: (H, W, 3), float32, 0 ... 255, whatever the depth of the file.
        orientation: EXIF's, 1 ... 8; 1 where the file says nothing: pixels are stored as they are shown.
    """

    pixels: np.ndarray
    orientation: int


@contextmanager
def open_picture(file: str | Path) -> Iterator[Image.Image]:
    """Pillow's image of a file, from a stream: by its path Pillow maps turned, uncompressed TIFFs wrongly."""
    with open(file, "rb") as stream, Image.open(stream) as image:
        yield image


def read_photograph(file: str | Path) -> Photograph:
    """Reads a picture in any of Pillow's modes as red, green and blue, turned as its EXIF orientation demands.

    Grey becomes three equal channels and keeps its 16 bits, colours keep the higher 8 of theirs; palettes and CMYK
    become the colours they show; what is transparent lies on black.

    Raises:
        ValueError: if the file holds several pictures, values that are not finite, or colours in the lowest of 16 bits.
        OSError, SyntaxError: as Pillow raises them, if it is truncated or no picture.
    """
    with open_picture(file) as image:
        is_deep_colour = _is_deep(image) and image.mode not in DEEP_GREY
        if is_deep_colour and isinstance(image, TiffImageFile) and image.tag_v2.get(PLANES) == APART:
            raise ValueError(
                f"{file}: has 16 bits a colour, each colour apart, which Pillow misreads; expected the colours of a "
                "pixel side by side: export it again"
            )
        number = getattr(image, "n_frames", 1)
        if number > 1:
            raise ValueError(f"{file}: holds {number} pictures; expected one: export each as a file")
        orientation = _orientation_of(image)
        is_negative = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        upright = ImageOps.exif_transpose(image)
        if upright.mode in DEEP_GREY:
            grey = _deep_grey(upright, file)
            pixels = _turned(grey) if is_negative and upright.mode != "F" else grey
        else:
            pixels = np.asarray(_on_black(upright))
    if is_deep_colour and 0 < pixels.max(initial=0) < DARKEST:
        raise ValueError(
            f"{file}: is a colour picture of 16 bits that uses the lowest only: {pixels.max(initial=0)} levels are "
            "left of it; expected 8 bits a colour, or 16 that are used: export it again"
        )
    return Photograph(pixels.astype(np.float32), orientation)


def brighten(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3), 0 ... 255, as uint8 to look at: one of fewer bits than its file holds is stretched."""
    if picture.max(initial=0) >= DARKEST or picture.max(initial=0) <= 0:
        return picture.round().clip(0, 255).astype(np.uint8)
    return stretch(picture)


def stretch(values: np.ndarray) -> np.ndarray:
    """Values of any range as uint8 to look at: from the 1st to the 99.5th percentile."""
    low, high = np.percentile(values, (1, 99.5))
    return (np.clip((values - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)


def read_size(file: str | Path) -> tuple[int, int]:
    """Height and width of a picture as `read_photograph` returns it, without its pixels."""
    with open_picture(file) as image:
        size, is_tiff = (image.height, image.width), image.format == "TIFF"
    is_turned = not is_tiff and read_orientation(file) >= 5  # of a TIFF, Pillow has turned the size
    return size[::-1] if is_turned else size


def read_orientation(file: str | Path) -> int:
    """EXIF's orientation of a picture, 1 ... 8; 1 for files that have none or are no pictures."""
    try:
        with Image.open(file) as image:
            return _orientation_of(image)
    except (OSError, SyntaxError, ValueError):
        return 1


def write_mask(path: str | Path, values: np.ndarray, orientation: int = 1) -> None:
    """Writes a PNG on the grid of the photograph's file, with its orientation: both look alike in every viewer.

    Args:
        path: the file.
        values: (H, W), uint8, upright.
        orientation: of `read_photograph`.
    """
    image = Image.fromarray(values)
    exif = Image.Exif()
    if orientation in TO_STORED:
        image = image.transpose(TO_STORED[orientation])
        exif[ExifTags.Base.Orientation] = orientation
    with write_atomically(path) as temporary:
        image.save(temporary, format="PNG", exif=exif)


def _deep_grey(image: Image.Image, file: str | Path) -> np.ndarray:
    """16 bits are the range 0 ... 65535, wider ones are scaled by their largest value."""
    grey = np.asarray(image).astype(np.float64)
    if not np.isfinite(grey).all():
        raise ValueError(f"{file}: holds NaN or infinity; expected finite grey values: export it again")
    largest = 65535.0 if image.mode != "F" and grey.max() <= 65535 else max(float(grey.max()), 1e-12)
    return np.repeat((grey * (255 / largest))[..., None], 3, axis=-1)


def _turned(grey: np.ndarray) -> np.ndarray:
    """The positive of a negative, about the range of the file, or about that in use where it is much smaller."""
    largest = float(grey.max())
    return (255 if largest >= DARKEST else largest) - grey


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel; asked before its pixels are read."""
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(BITS, (8,))) == 16
    modes = (part.args if isinstance(part.args, str) else str(part.args[:1]) for part in getattr(image, "tile", []))
    return any(";16" in mode for mode in modes)


def _orientation_of(image: Image.Image) -> int:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in TO_STORED else 1


def _on_black(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, (0, 0, 0, 255)), shown).convert("RGB")
