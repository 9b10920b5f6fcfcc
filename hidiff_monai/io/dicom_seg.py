"""Masks as DICOM-SEG and uncertainty as a parametric map, on the very frames of their series; and SEG read back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from hidiff_monai.io.dicom_header import UNREADABLE, read_dataset, read_sources, silence_dicom, unreadable
from hidiff_monai.io.dicom_volume import LPS_TO_RAS, DicomVolume
from hidiff_monai.io.files import write_atomically
from hidiff_monai.io.segment_codes import PRIVATE_SCHEME, code_item, segment_code, segment_label

MANUFACTURER = "hidiff_monai"
SEGMENTATION_SERIES, UNCERTAINTY_SERIES = 9001, 9002
PLACE_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
PLACE_TOLERANCE = 0.1  # of a pixel's edge
ENTROPY = Code("ENTROPY", PRIVATE_SCHEME, "Predictive entropy in nats")


def write_segmentation(
    path: str | Path,
    mask: np.ndarray,
    volume: DicomVolume,
    names: Sequence[str],
    algorithm: str,
    version: str,
) -> None:
    """Writes a mask as a binary DICOM-SEG object, which belongs to the study and refers to every image of the series.

    Of the patient it repeats what the standard demands of an object in a study: name, id, birth date, sex, and the
    study's ids, date and referring physician; all other attributes of the source stay out. Every class has its segment,
    also one without a voxel. Frames without a voxel are left out; an empty mask keeps all, as there must be one.

    Args:
        path: the file to write.
        mask: (X, Y, Z), 0 the background and k the k-th class, on the grid of ``volume``.
        volume: the series, as `read_series` gave it; its files must still be there.
        names: of the classes, from the first.
        algorithm: name of the network or bundle.
        version: its version.

    Raises:
        ValueError: if highdicom is not installed, the mask does not fit, or the source cannot be referred to.
    """
    _require_fit(mask, volume, path)
    if not names or mask.min() < 0 or mask.max() > len(names):
        raise ValueError(
            f"{path}: not written, the mask holds classes {mask.min()} to {mask.max()}; expected 0 to {len(names)}, as "
            f"many as there are names: give the names of all classes but the background"
        )
    highdicom = require_highdicom()
    segments = [_describe(highdicom, number, name, algorithm, version) for number, name in enumerate(names, start=1)]
    options = {
        "segmentation_type": "BINARY",
        "segment_descriptions": segments,
        "series_number": SEGMENTATION_SERIES,
        "content_label": "SEGMENTATION",
        "series_description": "Segmentation",
    }
    stack = mask.astype(np.uint8)
    _write(path, highdicom.seg.Segmentation, stack, volume, algorithm, version, options)


def write_uncertainty(
    path: str | Path, entropy: np.ndarray, volume: DicomVolume, algorithm: str, version: str, num_classes: int = 2
) -> None:
    """Writes the entropy of a prediction as a DICOM parametric map of float32, one frame a slice.

    Args:
        path: the file to write.
        entropy: (X, Y, Z), in nats, on the grid of ``volume``.
        volume: the series, as `read_series` gave it; its files must still be there.
        algorithm: name of the network or bundle.
        version: its version.
        num_classes: with the background; the range shown is 0 to its logarithm.

    Raises:
        ValueError: as `write_segmentation`, or if the entropy is not finite.
    """
    _require_fit(entropy, volume, path)
    if not np.isfinite(entropy).all():
        raise ValueError(f"{path}: not written, the entropy holds NaN or infinity; expected nats: predict it again")
    highdicom = require_highdicom()
    top = math.log(num_classes)
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="ENTROPY",
        lut_explanation=ENTROPY.meaning,
        unit=Code("1", "UCUM", "no units"),
        value_range=(0.0, max(top, float(entropy.max()))),
        slope=1.0,
        intercept=0.0,
        quantity_definition=ENTROPY,
    )
    options = {
        "real_world_value_mappings": [mapping],
        "window_center": top / 2,
        "window_width": top,
        "contains_recognizable_visual_features": False,
        "series_number": UNCERTAINTY_SERIES,
        "content_label": "UNCERTAINTY",
        "series_description": "Uncertainty",
    }
    _write(path, highdicom.pm.ParametricMap, entropy.astype(np.float32), volume, algorithm, version, options)


def read_segmentation(path: str | Path, volume: DicomVolume) -> np.ndarray:
    """A DICOM-SEG object as one mask on the grid of its series.

    Args:
        path: the object; of this package or another.
        volume: the series it was drawn on.

    Returns:
        (X, Y, Z) uint8, 0 the background and k the k-th segment in the order of their numbers.

    Raises:
        ValueError: as `read_segments`, or if segments overlap.
    """
    segments, labels = read_segments(path, volume)
    if (segments.sum(axis=0) > 1).any():
        raise ValueError(f"{path}: segments overlap; expected one class a voxel: read them one by one, read_segments")
    if len(labels) > 255:
        raise ValueError(f"{path}: holds {len(labels)} segments; expected at most 255: read_segments gives them all")
    numbers = np.arange(1, len(labels) + 1, dtype=np.uint8)
    return np.asarray((segments * numbers[:, None, None, None]).sum(axis=0), np.uint8)


def read_segments(path: str | Path, volume: DicomVolume) -> tuple[np.ndarray, list[str]]:
    """The segments of a DICOM-SEG object, which may overlap; fractional ones are cut at one half.

    A frame belongs to the slice at its place, or, where it names no place, to the slice it refers to.

    Args:
        path: the object; of this package or another.
        volume: the series it was drawn on.

    Returns:
        (S, X, Y, Z) bool, in the order of the segments' numbers, and their S labels.

    Raises:
        ValueError: if the file cannot be read, is no segmentation, or belongs to another series or grid.
    """
    data = read_dataset(path, with_pixels=True)
    if "SegmentSequence" not in data:
        raise ValueError(f"{path}: is no DICOM segmentation; expected an object with segments: name a DICOM-SEG file")
    try:
        with silence_dicom():
            places = _places(path, data, volume)
            numbers = sorted(int(segment.SegmentNumber) for segment in data.SegmentSequence)
            labels = {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in data.SegmentSequence}
            pixels = np.asarray(data.pixel_array).reshape(-1, int(data.Rows), int(data.Columns))
            segments = np.zeros((len(numbers), *volume.array.shape), bool)
            half = int(data.get("MaximumFractionalValue", 1)) / 2
            for frame, place, z in zip(pixels, data.PerFrameFunctionalGroupsSequence, places, strict=True):
                for number, region in _regions(data, place, frame, numbers, half):
                    segments[numbers.index(number), :, :, z] |= region.T
    except UNREADABLE as error:
        if isinstance(error, _MisplacedError):
            raise ValueError(str(error)) from None
        raise unreadable(path, error) from None
    return segments, [labels[number] for number in numbers]


class _MisplacedError(ValueError):
    """Already says what is wrong."""


def _regions(
    data: Dataset, place: Dataset, frame: np.ndarray, numbers: list[int], half: float
) -> list[tuple[int, np.ndarray]]:
    """Which segments a frame (rows, columns) holds, and where."""
    if data.SegmentationType == "LABELMAP":
        return [(number, frame == number) for number in numbers]
    groups = [place, *data.get("SharedFunctionalGroupsSequence", [])]
    group = next(item for item in groups if "SegmentIdentificationSequence" in item)
    return [(int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber), frame >= max(half, 0.5))]


def _places(path: str | Path, data: Dataset, volume: DicomVolume) -> list[int]:
    """The slice of each frame."""
    sources = read_sources(volume)
    names = [str(source.SOPInstanceUID) for source in sources]
    by_file = dict(zip(dict.fromkeys(volume.files), names, strict=True))
    slices = {
        (by_file[file], frame): z for z, (file, frame) in enumerate(zip(volume.files, volume.frames, strict=True))
    }
    is_same_space = str(data.get("FrameOfReferenceUID", "")) == str(sources[0].FrameOfReferenceUID)
    if not is_same_space and not _referenced(data) & set(names):
        raise _MisplacedError(
            f"{path}: neither lies in the space of {volume.files[0]} nor refers to its series; expected a "
            "segmentation of this series: name another"
        )
    if (int(data.Columns), int(data.Rows)) != volume.array.shape[:2]:
        raise _MisplacedError(
            f"{path}: frames of {data.Columns} x {data.Rows} pixels; expected {volume.array.shape[0]} x "
            f"{volume.array.shape[1]}, those of {volume.files[0]}: resample it onto the series"
        )
    shared = next(iter(data.get("SharedFunctionalGroupsSequence", [])), Dataset())
    return [_place(path, frame, shared, volume, slices) for frame in data.PerFrameFunctionalGroupsSequence]


def _referenced(data: Dataset) -> set[str]:
    series = data.get("ReferencedSeriesSequence", [])
    return {str(item.ReferencedSOPInstanceUID) for one in series for item in one.get("ReferencedInstanceSequence", [])}


def _place(
    path: str | Path, frame: Dataset, shared: Dataset, volume: DicomVolume, slices: dict[tuple[str, int], int]
) -> int:
    groups = {name: frame.get(name) or shared.get(name) for name in PLACE_GROUPS}
    position, orientation, measures = groups.values()
    if not position:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        return slices[str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber", 1)) - 1]
    affine = LPS_TO_RAS @ volume.affine
    offset = np.array(position[0].ImagePositionPatient, float) - affine[:3, 3]
    voxel = np.linalg.solve(affine[:3, :3], offset)
    z = round(float(voxel[2]))
    is_near = np.abs(affine[:3, :3] @ (voxel - [0, 0, z])).max() < PLACE_TOLERANCE * np.linalg.norm(affine[:3, 0])
    rows_mm, columns_mm = (float(edge) for edge in measures[0].PixelSpacing)
    axes = np.array(orientation[0].ImageOrientationPatient, float).reshape(2, 3) * [[columns_mm], [rows_mm]]
    is_parallel = np.allclose(axes, affine[:3, :2].T, atol=1e-3 * columns_mm)
    if not (is_near and is_parallel and 0 <= z < volume.array.shape[2]):
        raise _MisplacedError(
            f"{path}: has a frame on another grid than {volume.files[0]}; expected frames that lie on its slices: "
            "resample it onto the series"
        )
    return z


def _require_fit(array: np.ndarray, volume: DicomVolume, path: str | Path) -> None:
    if array.shape != volume.array.shape:
        raise ValueError(
            f"{path}: not written, shape {array.shape} is not that of the series; expected {volume.array.shape}: put "
            "the prediction back onto the grid of its source"
        )


def require_highdicom() -> ModuleType:
    """The package that writes DICOM, with the parts that are used here.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import highdicom
        import highdicom.pm
        import highdicom.seg
    except ImportError as error:
        raise ValueError(
            f"highdicom cannot be imported ({error}); expected it for DICOM output: "
            'pip install "hidiff-monai[dicom]", or convert the input to NIfTI'
        ) from error
    return highdicom


def _describe(highdicom: ModuleType, number: int, name: str, algorithm: str, version: str) -> Dataset:
    code = segment_code(name)
    identification = highdicom.AlgorithmIdentificationSequence(
        name=segment_label(algorithm), family=Code("123110", "DCM", "Artificial Intelligence"), version=version
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment_label(name),
        segmented_property_category=code.category,
        segmented_property_type=code.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=identification,
        display_color=highdicom.color.CIELabColor.from_rgb(*code.rgb),
    )
    if code.modifier is not None:
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            code_item(code.modifier)
        ]
    return segment


def _write(
    path: str | Path,
    make: Any,
    array: np.ndarray,
    volume: DicomVolume,
    algorithm: str,
    version: str,
    options: dict[str, Any],
) -> None:
    """Makes a highdicom object for (X, Y, Z) values and saves it; equipment and measures are the same for both."""
    sources = read_sources(volume)
    if len(sources) > 1 and "PerFrameFunctionalGroupsSequence" in sources[0]:
        raise ValueError(
            f"{path}: not written, the series has {len(sources)} enhanced files; expected one, or a file a slice that "
            "is not enhanced: convert the series to NIfTI and predict that"
        )
    frames = np.ascontiguousarray(array.transpose(2, 1, 0)[_source_order(volume, path)])
    try:
        with silence_dicom(), write_atomically(path) as temporary:
            result = make(
                source_images=sources,
                pixel_array=frames,
                series_instance_uid=generate_uid(),
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=segment_label(algorithm),
                software_versions=version,
                device_serial_number="0",
                **options,
            )
            if "window_width" in options:  # narrower than one unit, which only this function permits
                result.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"
                result.Laterality = ""
            result.save_as(temporary)
    except UNREADABLE as error:
        if isinstance(error, OSError):
            raise
        raise ValueError(
            f"{path}: not written, {volume.files[0]} cannot be referred to ({type(error).__name__}); expected the "
            "whole header of a DICOM image in a study: export the series again, or choose NIfTI"
        ) from None


def _source_order(volume: DicomVolume, path: str | Path) -> np.ndarray:
    """Slices in the order of their sources: as they are for one file a slice, as stored for one multi-frame file."""
    if len(set(volume.files)) == len(volume.files):
        return np.arange(len(volume.files))
    if len(set(volume.files)) == 1:
        return np.argsort(volume.frames)
    raise ValueError(
        f"{path}: not written, the series has several files of several frames each; expected one file a slice or one "
        "for all: choose NIfTI"
    )
