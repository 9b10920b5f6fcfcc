"""Photographs, from picture files as they are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from hidiff_monai.io.files import list_images
from hidiff_monai.io.images import DARKEST, read_photograph

from .reading import UNREADABLE
from .validate import unreadable

RARE_SHARE = 0.05  # of a channel's pixels: up to here zeros are noise; DRIVE's have 0.026 at most


def list_photographs(path: str | Path) -> list[dict[str, Any]]:
    """The pictures to predict in a folder, or the one file itself, as items for `LoadPhotographd`.

    Returns:
        Dictionaries with "id", "image" (the path) and "format", "image"; sorted.

    Raises:
        ValueError: if there is none, or two differ in their ending only.
    """
    return [{"id": Path(file).stem, "image": file, "format": "image"} for file in list_images(path)]


class LiftBlackd(MapTransform):
    """Gives pictures whose surround is exactly black the dark surround that a network was trained on.

    Where zeros are a channel's rule, not its exception, `NormalizeIntensity(nonzero=True)` would leave them out of
    mean and deviation and set them to the mean, a grey between that of the retina and that of a vessel.

    Args:
        keys: of pictures (C, H, W), 0 ... 255.
        level: grey value that zeros are raised to, in 0 ... 255; of a picture that fills less of its file, as 12 bits
            in 16, in proportion.
    """

    def __init__(self, keys: KeysCollection, level: float) -> None:
        super().__init__(keys)
        self.level = level

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises the zeros of each channel that has more than `RARE_SHARE` of them."""
        item: dict[Hashable, Any] = dict(data)
        for key in self.key_iterator(item):
            largest = float(item[key].max())
            level = self.level if largest >= DARKEST else self.level * largest / 255  # of fewer bits than its file has
            black = item[key] == 0
            frequent = black.flatten(1).float().mean(dim=1) > RARE_SHARE
            item[key] = item[key].masked_fill(black & frequent[:, None, None], level)
        return item


class LoadPhotographd(MapTransform):
    """Reads a picture: image (3, H, W) float32, 0 ... 255, upright.

    The result is a MetaTensor whose "filename_or_obj" is the file and whose "orientation" is EXIF's, for
    `hidiff_monai.io.write_mask`.

    Args:
        keys: of the pictures.
    """

    def __init__(self, keys: KeysCollection = "image") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the file names of an item by what the files hold.

        Raises:
            ValueError: if a file cannot be read, or holds several pictures.
        """
        item: dict[Hashable, Any] = dict(data)
        for key in self.key_iterator(item):
            file = str(item[key])
            try:
                photograph = read_photograph(file)
            except UNREADABLE as error:
                if isinstance(error, ValueError) and str(error).startswith(file):
                    raise
                raise unreadable(file, error) from error
            meta = {"filename_or_obj": file, "orientation": photograph.orientation}
            item[key] = MetaTensor(torch.from_numpy(photograph.pixels).permute(2, 0, 1).contiguous(), meta=meta)
        return item
