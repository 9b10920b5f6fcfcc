"""Maps of classes as pictures: brought to the size shown, outlined over an image, set against each other."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hidiff_monai.report.canvas import ERROR_COLOURS, Colour, error_map

# Class 1 first. Eight after Okabe and Ito; then each the farthest (CIELAB) from those before it, as seen with normal
# sight and with each kind of colour blindness, among colours light enough for a dark ground.
CLASS_COLOURS: tuple[Colour, ...] = (
    (0, 158, 115), (240, 228, 66), (204, 121, 167), (86, 180, 233), (213, 94, 0), (245, 245, 245), (58, 120, 205),
    (230, 159, 0), (120, 0, 255), (90, 255, 150), (150, 60, 30), (135, 60, 120), (150, 165, 90), (150, 90, 255),
    (150, 210, 165), (75, 90, 75),
)  # fmt: skip
OTHER_CLASS: Colour = (126, 47, 142)  # dark, as it mostly lies inside the light grey of what both mark
FILL = 0.3  # of a class's colour over the image; its outline is pure
LEAST_COVER = 0.25  # of a shown pixel, from which on it counts as marked: so that thin vessels outlive the shrinking


def class_colour(number: int) -> Colour:
    """The colour of class 1, 2, ...; they repeat after sixteen."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def resize_photo(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Average where it shrinks, interpolate where it grows.

    Args:
        photo: (H, W, 3), uint8, or (H, W), float32.
        size: height and width to show it at, pixels.
    """
    shrinks = size[0] < photo.shape[0] or size[1] < photo.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(photo).resize(size[::-1], method))


def resize_classes(classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Every class number stays one; a pixel that holds several shows the commonest but background.

    Args:
        classes: (H, W), 0 the background, at most 255.
        size: height and width to show it at, pixels.

    Returns:
        `size`, uint8; where it shrinks, marked from `LEAST_COVER` of a pixel on.
    """
    classes = classes.astype(np.uint8)
    if size[0] >= classes.shape[0] and size[1] >= classes.shape[1]:
        return np.asarray(Image.fromarray(classes).resize(size[::-1], Image.Resampling.NEAREST))
    numbers = [number for number in np.unique(classes) if number > 0]
    best, cover = np.zeros(size, np.uint8), np.zeros((2, *size), np.float32)  # cover: of the commonest, of all
    for number in numbers:
        share = resize_photo((classes == number).astype(np.float32), size)
        best[share > cover[0]] = number
        cover[0] = np.maximum(cover[0], share)
        cover[1] += share
    return np.where(cover[1] >= LEAST_COVER, best, 0).astype(np.uint8)


def outline(classes: np.ndarray) -> np.ndarray:
    """Where a marked pixel has a neighbour, of eight, of another class; the border of the picture is none.

    Args:
        classes: (H, W), integers.

    Returns:
        (H, W), bool.
    """
    H, W = classes.shape
    padded = np.pad(classes, 1, mode="edge")
    shifts = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    differs = [padded[i : i + H, j : j + W] != classes for i, j in shifts]
    return np.logical_or.reduce(differs) & (classes > 0)


def overlay(ground: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Classes over an image: a veil of the class's colour inside a pure outline.

    Args:
        ground: (H, W, 3), uint8.
        classes: (H, W), 0 the background.
    """
    picture = ground.copy()
    edge = outline(classes)
    for number in np.unique(classes[classes > 0]):
        inside, colour = classes == number, np.array(class_colour(int(number)))
        picture[inside] = ((1 - FILL) * ground[inside] + FILL * colour).astype(np.uint8)
        picture[inside & edge] = colour
    return picture


def difference_map(mask: np.ndarray, reference: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """`error_map` over all marked classes, and in a colour of its own what both mark as different classes.

    Args:
        mask: (H, W), 0 the background.
        reference: (H, W), likewise.
        ground: (H, W, 3), uint8, shown where neither marks anything.
    """
    picture = error_map(mask > 0, reference > 0)
    picture[(mask > 0) & (reference > 0) & (mask != reference)] = OTHER_CLASS
    neither = (mask == 0) & (reference == 0)
    picture[neither] = ground[neither]
    return picture


def difference_keys(added: str, removed: str, same: str, other: str) -> list[tuple[str, Colour]]:
    """The legend of `difference_map`, in the words of the panel."""
    positive, more, less = ERROR_COLOURS.values()
    return [(added, more), (removed, less), (same, positive), (other, OTHER_CLASS)]
