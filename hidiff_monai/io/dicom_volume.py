"""One DICOM series as a volume: every slice in its place, in the units of the modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from hidiff_monai.io.dicom_header import UNREADABLE, read_dataset, silence_dicom, unreadable

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
DECODERS = {
    "JPEG-LS": "pyjpegls",
    "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg",
    "High-Throughput": "pylibjpeg pylibjpeg-openjpeg",
}
SPACING_TOLERANCE = 0.01  # of the spacing
ROUNDING_MM = 0.02  # of steps between places of two decimals, along all three axes together


@dataclass(frozen=True)
class DicomVolume:
    """A series as one volume.

    Attributes:
        array: (X, Y, Z): columns, rows, and slices along the normal of the image plane; int16 where that is exact,
            else float32.
        affine: (4, 4), voxel to world in mm, RAS+; sheared where the gantry was tilted.
        files: the file of each slice, Z of them.
        modality: for example "CT".
        frames: the number of each slice's frame in its file, from 0, Z of them.
    """

    array: np.ndarray
    affine: np.ndarray
    files: tuple[str, ...]
    modality: str
    frames: tuple[int, ...]


class _UnknownUnitsError(ValueError):
    """Stored values cannot be turned into the units of the modality."""


class _Slice(NamedTuple):
    """A frame and its place; orientation (2, 3) are the unit vectors along a row and down a column, in LPS."""

    file: str
    frame: int
    pixels: np.ndarray
    position_mm: np.ndarray
    orientation: np.ndarray
    spacing_mm: tuple[float, float]
    thickness_mm: float
    identity: tuple[str, str]
    instance: str

    def __str__(self) -> str:
        return self.file if self.frame == 0 else f"{self.file} (frame {self.frame + 1})"


def read_series(files: Sequence[str]) -> DicomVolume:
    """Reads a series, in whatever order its files come; see `DicomVolume` for axes and units.

    Modality LUT or rescale slope and intercept are applied, frame by frame. A tilted gantry keeps its voxels: the
    affine is sheared. A single slice is as thick as its header says, or 1 mm.

    Args:
        files: those of one series; one file a slice, or enhanced multi-frame.

    Raises:
        ValueError: if a file cannot be read or decoded, has no geometry, holds colours or NaN, or if the slices are not
            one stack: a slice missing or twice there, or of another size, spacing, orientation, series or modality, or
            files that share an SOPInstanceUID, by which segments refer to them.
    """
    if not files:
        raise ValueError("a series of no files; expected at least one: name a folder with DICOM images")
    slices = [part for file in files for part in _read_slices(str(file))]
    for part in slices:
        _require_same_grid(part, slices[0])
    normal = np.cross(*slices[0].orientation)
    slices.sort(key=lambda part: float(part.position_mm @ normal))
    _require_regular(slices, normal)
    _require_own_instances(slices)
    return DicomVolume(
        array=np.stack([part.pixels for part in slices]).transpose(2, 1, 0),
        affine=_affine(slices, normal),
        files=tuple(part.file for part in slices),
        modality=slices[0].identity[1],
        frames=tuple(part.frame for part in slices),
    )


def _read_slices(file: str) -> list[_Slice]:
    data = read_dataset(file, with_pixels=True)
    frames = _decode(file, data)
    try:
        with silence_dicom():
            return [_read_slice(file, data, number, pixels) for number, pixels in enumerate(frames)]
    except _UnknownUnitsError as error:
        raise ValueError(
            f"{file}: {error}; expected a number, without which its grey values have no unit: export it again"
        ) from None
    except UNREADABLE as error:
        raise ValueError(
            f"{file}: no usable geometry ({type(error).__name__}); expected ImagePositionPatient, "
            "ImageOrientationPatient and PixelSpacing of every frame: export the original images, not a screen capture"
        ) from None


def _decode(file: str, data: Dataset) -> np.ndarray:
    """Stored values of all frames, (frames, rows, columns)."""
    syntax = data.file_meta.TransferSyntaxUID
    try:
        with silence_dicom():
            problem = _describe_undecodable(data, syntax)
            if not problem:
                pixels = np.asarray(data.pixel_array)
                return pixels if pixels.ndim == 3 else pixels[None]
    except UNREADABLE as error:
        if not syntax.is_compressed:
            raise unreadable(file, error) from None
        problem = (
            f"cannot be decoded from {syntax.name} ({type(error).__name__}); expected a whole file and a decoder for "
            f"its bit depth: copy it again, or pip install {_package_for(syntax)}"
        )
    raise ValueError(f"{file}: {problem}")


def _describe_undecodable(data: Dataset, syntax: UID) -> str:
    if int(data.SamplesPerPixel) != 1 or str(data.PhotometricInterpretation) == "PALETTE COLOR":
        return "is a colour image; expected grey values: leave it out of the folder, or convert it"
    if not any(key in data for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return "holds no pixel data; expected an image: copy or export it again"
    if not _has_decoder(syntax):
        return f"is compressed as {syntax.name}; expected a decoder for it: pip install {_package_for(syntax)}"
    return ""


def _package_for(syntax: UID) -> str:
    return next((package for key, package in DECODERS.items() if key in syntax.name), "pylibjpeg pylibjpeg-libjpeg")


def _has_decoder(syntax: UID) -> bool:
    try:
        from pydicom.pixels import get_decoder
    except ImportError:  # pydicom 2
        handlers = pydicom.config.pixel_data_handlers
        return any(handler.supports_transfer_syntax(syntax) and handler.is_available() for handler in handlers)
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _read_slice(file: str, data: Dataset, number: int, stored: np.ndarray) -> _Slice:
    groups = _functional_groups(data, number)
    position, orientation, measures, values = (
        _item(groups, data, f"{name}Sequence")
        for name in ("PlanePosition", "PlaneOrientation", "PixelMeasures", "PixelValueTransformation")
    )
    axes = np.array(orientation.ImageOrientationPatient, float).reshape(2, 3)
    place = np.array(position.ImagePositionPatient, float).reshape(3)
    rows_mm, columns_mm = (float(edge) for edge in measures.PixelSpacing)
    if not (
        np.isfinite(place).all() and np.abs(axes @ axes.T - np.eye(2)).max() < 0.01 and min(rows_mm, columns_mm) > 0
    ):
        raise ValueError("no orthonormal axes")
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return _Slice(
        *(file, number, _scale(stored, values), place, axes, (rows_mm, columns_mm), _thickness(measures)),
        (str(data.SeriesInstanceUID), str(data.get("Modality", ""))),
        str(data.get("SOPInstanceUID", "")),
    )


def _functional_groups(data: Dataset, number: int) -> list[Dataset]:
    """Where to look for a frame's attributes, first its own and then what all frames share; empty for one slice."""
    if "PerFrameFunctionalGroupsSequence" in data:
        return [data.PerFrameFunctionalGroupsSequence[number], *data.get("SharedFunctionalGroupsSequence", [])]
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        raise ValueError("frames without a place")
    return []


def _item(groups: list[Dataset], data: Dataset, name: str) -> Dataset:
    """The first functional group of that name; without groups the dataset itself holds the attributes."""
    return next((group[name].value[0] for group in groups if group.get(name)), Dataset() if groups else data)


def _thickness(measures: Dataset) -> float:
    given = (measures.get("SpacingBetweenSlices"), measures.get("SliceThickness"))
    return next((float(value) for value in given if value is not None and float(value) > 0), 1.0)


def _scale(stored: np.ndarray, values: Dataset) -> np.ndarray:
    """Stored values (rows, columns) in the units of the modality."""
    if values.get("ModalityLUTSequence"):
        from pydicom.pixel_data_handlers.util import apply_modality_lut

        stored = apply_modality_lut(stored, values)
    slope, intercept = 1.0, 0.0
    if "ModalityLUTSequence" not in values:
        slope, intercept = _number(values, "RescaleSlope", slope), _number(values, "RescaleIntercept", intercept)
    scaled = stored.astype(np.float64) * slope + intercept
    is_exact = (scaled == np.rint(scaled)).all() and scaled.min() >= -(2**15) and scaled.max() < 2**15
    return scaled.astype(np.int16 if is_exact else np.float32)


def _number(values: Dataset, name: str, otherwise: float) -> float:
    """A value that may be missing, but not empty: what was meant would be guessed."""
    try:
        return float(values.get(name, otherwise))
    except (TypeError, ValueError):
        raise _UnknownUnitsError(f"{name} is empty or no number") from None


def _require_same_grid(part: _Slice, first: _Slice) -> None:
    differences: dict[str, Any] = {
        "series": part.identity[0] != first.identity[0],
        "modality": part.identity[1] != first.identity[1],
        "size": part.pixels.shape != first.pixels.shape,
        "pixel spacing": not np.allclose(part.spacing_mm, first.spacing_mm, rtol=1e-3, atol=0),
        "orientation": not np.allclose(part.orientation, first.orientation, atol=1e-3),
    }
    found = [name for name, is_other in differences.items() if is_other]
    if found:
        raise ValueError(
            f"{part}: its {' and '.join(found)} is not that of {first}; expected slices of one stack: move localizers "
            "and images of other series to another folder"
        )
    if not np.isfinite(part.pixels).all():
        raise ValueError(f"{part}: holds NaN or infinity; expected finite values: export it again")


def _require_own_instances(slices: list[_Slice]) -> None:
    file_of: dict[str, str] = {}
    for part in slices:
        first = file_of.setdefault(part.instance, part.file)
        if part.instance and first != part.file:
            raise ValueError(
                f"{part.file}: has the SOPInstanceUID of {first}; expected one of its own, by which a segmentation "
                "refers to it: anonymise the originals again, or convert the series to NIfTI"
            )


def _require_regular(slices: list[_Slice], normal: np.ndarray) -> None:
    steps = np.diff([part.position_mm for part in slices], axis=0)
    gaps = steps @ normal
    for (part, following), gap in zip(pairwise(slices), gaps, strict=True):
        if gap < SPACING_TOLERANCE:
            raise ValueError(
                f"{following}: lies where {part} does; expected one slice at a place: leave one of them out, or sort "
                "time points and echoes into folders that are given one at a time"
            )
    usual = np.sort(steps, axis=0)[(len(steps) - 1) // 2] if len(steps) else np.zeros(3)
    usual_gap = np.sort(gaps)[(len(gaps) - 1) // 2] if len(gaps) else 0.0
    deviations = np.abs(gaps - usual_gap)
    deviations = deviations if (deviations > _tolerance(usual_gap)).any() else np.linalg.norm(steps - usual, axis=1)
    if (deviations > _tolerance(usual_gap)).any():
        worst = int(deviations.argmax())
        raise ValueError(
            f"{slices[worst + 1]}: {gaps[worst]:.3f} mm beyond {slices[worst]}, a slice is missing between them or one "
            f"is shifted; expected {usual_gap:.3f} mm as elsewhere in this series: complete the series, or resample it"
        )


def _tolerance(gap_mm: float) -> float:
    return max(ROUNDING_MM, SPACING_TOLERANCE * gap_mm)


def _affine(slices: list[_Slice], normal: np.ndarray) -> np.ndarray:
    first, last = slices[0], slices[-1]
    along_row, down_column = first.orientation
    rows_mm, columns_mm = first.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = along_row * columns_mm
    affine[:3, 1] = down_column * rows_mm
    step = (
        (last.position_mm - first.position_mm) / (len(slices) - 1) if len(slices) > 1 else normal * first.thickness_mm
    )
    affine[:3, 2] = step
    affine[:3, 3] = first.position_mm
    return LPS_TO_RAS @ affine
