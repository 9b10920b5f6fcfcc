"""One image file as an array with its grid, whichever of PIL, nibabel or NumPy can read it."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, ImageDataError
from PIL import Image, ImageOps

from hidiff_monai.io.geometry import only_scales
from hidiff_monai.io.images import open_picture

UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError, struct.error, zlib.error),
    *(ImageFileError, HeaderDataError, ImageDataError, Image.DecompressionBombError),
)


def count_not_finite(array: np.ndarray) -> int:
    """How many numbers are NaN or infinite as float32, in which networks get them."""
    if not np.issubdtype(array.dtype, np.inexact):
        return 0
    return int(np.count_nonzero(~(np.abs(array) <= np.finfo(np.float32).max)))


class Pixels(NamedTuple):
    """What a file holds.

    Attributes:
        array: (*spatial, channels) in stored units: (H, W, C) for 2D files, (X, Y, Z, C) for NIfTI volumes.
        affine: (4, 4) voxel to world in mm, or None for formats without one.
        is_oriented: false of NIfTI files with neither qform nor sform, or one that only scales: they know voxel sizes.
    """

    array: np.ndarray
    affine: np.ndarray | None
    is_oriented: bool = True

    @property
    def channels(self) -> int:
        """Number of channels, the last axis."""
        return int(self.array.shape[-1])

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Size of the grid without channels: (H, W), or (X, Y, Z)."""
        return tuple(self.array.shape[:-1])


MOST_COMPRESSED = 1032  # bytes that one byte of a deflated file can hold


def _require_voxels(file: Path, volume: Any) -> None:
    """A header that claims more voxels than its file can hold would have their memory allocated before reading ends."""
    claimed = math.prod(volume.shape) * volume.header.get_data_dtype().itemsize
    held = file.stat().st_size * (MOST_COMPRESSED if file.name.lower().endswith(".gz") else 1)
    if claimed > held:
        raise ValueError(f"the header claims {claimed} bytes of voxels {volume.shape}, the file holds {held} at most")


def read_pixels(file: str | Path) -> Pixels:
    """Reads a file completely.

    Pictures come upright, as their EXIF orientation demands. 1-bit masks come as {0, 255}; a palette image comes as
    the colours it shows, with one channel where all are grey.

    Args:
        file: .nii, .nii.gz, .npy (rows first, channels last) or whatever PIL opens.

    Raises:
        One of `UNREADABLE`: if the file is truncated, or is no image.
    """
    name = Path(file).name.lower()
    if name.endswith((".nii", ".nii.gz")):
        volume = nibabel.load(file)
        _require_voxels(Path(file), volume)
        array = np.asanyarray(volume.dataobj)  # type: ignore[attr-defined]
        if array.dtype.fields is not None:
            raise ValueError("voxels in colour; expected numbers: export it in grey")
        header: Any = volume.header
        affine: np.ndarray = volume.affine  # type: ignore[attr-defined]
        is_oriented = bool(header["qform_code"] or header["sform_code"]) and not only_scales(affine)
        return Pixels(array if array.ndim == 4 else array[..., None], affine, is_oriented)
    if name.endswith(".npy"):
        array = np.load(file, allow_pickle=False)
        return Pixels(array if array.ndim == 3 else array[..., None], None)
    array = _read_with_pil(file)
    return Pixels(array if array.ndim == 3 else array[..., None], None)


def read_stack(file: str | Path) -> Pixels:
    """A prepared volume, memory-mapped: (D, C, X, Y) images and (D, X, Y) labels as (D, X, Y, channels).

    Raises:
        One of `UNREADABLE`: if the file is truncated, or is no such volume.
    """
    stack = np.load(file, mmap_mode="r")
    if stack.ndim not in (3, 4):
        raise ValueError(f"array of shape {stack.shape}; expected (D, C, X, Y) or (D, X, Y)")
    return Pixels(np.moveaxis(stack, 1, -1) if stack.ndim == 4 else stack[..., None], None)


def _read_with_pil(file: str | Path) -> np.ndarray:
    with open_picture(file) as stored:
        number = getattr(stored, "n_frames", 1)
        if number > 1:
            raise ValueError(f"holds {number} pictures; expected one: export each as a file")
        image = ImageOps.exif_transpose(stored)
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if image.mode != "P":
            return np.asarray(image)
        colours = np.asarray(image.convert("RGB"))
    is_grey = (colours == colours[..., :1]).all()
    return colours[..., 0] if is_grey else colours
