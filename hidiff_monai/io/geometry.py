"""Between a volume as it came and as it is cut: RAS axes, slices along the last; and its range of values."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

RAS = np.array([[0, 1], [1, 1], [2, 1]])  # axis i runs along world axis i, upwards


def cut_axes(affine: np.ndarray, acquired: bool = False, is_oriented: bool = True) -> np.ndarray:
    """How a volume is flipped and permuted before it is cut along its last axis; no voxel is changed.

    To RAS: its axes then run right, anterior, superior. Or as it was acquired, whatever its slices' place in the body,
    as of a short axis: rows run down and columns to the right of the picture, as DICOM stores it, each towards the
    patient's left, back or feet, the lower of the two the rows. A source that tells no orientation is not turned.

    Args:
        affine: (4, 4), voxel to world in mm.
        acquired: keeps the planes, which the third axis counts.
        is_oriented: whether the affine tells an orientation, see `Pixels`.

    Returns:
        (3, 2), of each axis of the source where it goes and, -1, whether it is flipped: for `apply_orientation`.
    """
    axes = io_orientation(affine)
    if not acquired:
        return axes
    if not is_oriented:
        return RAS.copy()
    down, right = (0, 1) if axes[0, 0] > axes[1, 0] else (1, 0)
    turned = np.array([[0, 1], [0, 1], [2, 1]])
    turned[down], turned[right] = (0, -axes[down, 1]), (1, -axes[right, 1])
    return turned


def only_scales(affine: np.ndarray) -> bool:
    """Whether an affine (4, 4) turns nothing: in NIfTI that of files that know voxel sizes, and no orientation."""
    linear = np.asarray(affine, float)[:3, :3]
    return np.allclose(linear, np.diag(np.abs(np.diag(linear))))


def ras_affine(geometry: dict[str, Any]) -> np.ndarray:
    """Voxel to world in mm, (4, 4), of a prepared volume: reoriented to RAS and cut to its slices.

    Args:
        geometry: "shape" and "affine" of the source, and "slices", the first and last-plus-one that were kept.
    """
    affine = np.asarray(geometry["affine"], float)
    moved = affine @ inv_ornt_aff(source_axes(affine, geometry.get("axes")), geometry["shape"])
    moved[:3, 3] += moved[:3, 2] * geometry["slices"][0]
    return moved


def source_axes(affine: Any, axes: Any = None) -> np.ndarray:
    """How a source of this affine was turned, (3, 2): as it is told, or to RAS where it is not."""
    return cut_axes(np.asarray(affine, float)) if axes is None else np.asarray(axes)


def slice_axis(axes: np.ndarray) -> int:
    """The axis of the source, 0 to 2, along which it is cut, when it is turned so."""
    return int(np.flatnonzero(axes[:, 0] == 2)[0])


def is_invertible(affine: np.ndarray) -> bool:
    """Whether an affine (4, 4) places every voxel, each elsewhere."""
    return bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine) == 4)


def spacing_mm(geometry: dict[str, Any]) -> list[float]:
    """Edge lengths of a prepared volume's voxels along X, Y and D, in mm."""
    return [float(edge) for edge in nibabel.affines.voxel_sizes(ras_affine(geometry))]


def restore_to_source(mask: np.ndarray, geometry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Puts a mask of a prepared volume back onto the grid of its source, voxel by voxel.

    Args:
        mask: (X, Y, D), as predicted for the prepared volume.
        geometry: the case's geometry, as `read_geometry` gives it; with "axes" where these were not turned to RAS.

    Returns:
        The mask with the source's shape and axes, 0 in slices that were cut off, and the source's affine (4, 4).

    Raises:
        ValueError: if the mask is not of the prepared volume's shape.
    """
    affine, shape = np.asarray(geometry["affine"], float), geometry["shape"]
    axes = source_axes(affine, geometry.get("axes"))
    full_shape = [0, 0, 0]
    for size, world_axis in zip(shape, axes[:, 0], strict=True):
        full_shape[int(world_axis)] = size
    first, last = geometry["slices"]
    expected = (full_shape[0], full_shape[1], last - first)
    if mask.shape != expected:
        raise ValueError(
            f"mask has shape {mask.shape}; expected {expected}, that of the prepared volume: "
            f"give the prediction of this very case, without channel or batch axis"
        )
    full = np.zeros(full_shape, mask.dtype)
    full[..., first:last] = mask
    return np.ascontiguousarray(apply_orientation(full, ornt_transform(RAS, axes))), affine


def mean_and_deviation(channel: np.ndarray) -> tuple[float, float]:
    """Of the non-zero voxels of a whole channel (X, Y, Z), as in MONAI's `NormalizeIntensity(nonzero=True)`."""
    values = channel[channel != 0].astype(np.float64)
    return (float(values.mean()), float(values.std())) if values.size else (0.0, 1.0)


def upright(plane: np.ndarray, acquired: bool = False) -> np.ndarray:
    """A plane (X, Y, ...) of a volume as radiologists look at it.

    Args:
        plane: in RAS; then rows run from anterior to posterior, the patient's right is on the left.
        acquired: the plane was kept as it was acquired, see `cut_axes`: its rows run down already.
    """
    if acquired:
        return np.ascontiguousarray(plane)
    return np.ascontiguousarray(np.swapaxes(plane, 0, 1)[::-1, ::-1])
