"""Masks as an RT Structure Set: closed contours in the planes of the series."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid
from skimage.measure import find_contours

from hidiff_monai.io.dicom_header import PATIENT, STUDY, read_sources, silence_dicom
from hidiff_monai.io.dicom_volume import LPS_TO_RAS, DicomVolume
from hidiff_monai.io.files import write_atomically
from hidiff_monai.io.segment_codes import code_item, segment_code, segment_label

RT_STRUCTURE_SET = UID("1.2.840.10008.5.1.4.1.1.481.3")
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
SERIES_NUMBER = 9003


def write_rtstruct(path: str | Path, mask: np.ndarray, volume: DicomVolume, names: Sequence[str], version: str) -> None:
    """Writes one ROI a class, with contours half way between the pixel centres inside and those outside.

    A hole is joined to its outline by the keyhole technique (DICOM PS3.3 C.8.8.6.3): one contour that runs in and out
    on the same line. Islands, also in holes, have contours of their own. Of the patient the object repeats what
    `write_segmentation` does. A class without a voxel is an ROI without contours.

    Args:
        path: the file to write.
        mask: (X, Y, Z), 0 the background and k the k-th class, on the grid of ``volume``.
        volume: the series, as `read_series` gave it; its files must still be there.
        names: of the classes, from the first.
        version: of the software.

    Raises:
        ValueError: if the mask is not on the grid of the series, or holds more classes than there are names.
    """
    if mask.shape != volume.array.shape or not 0 <= mask.min() <= mask.max() <= len(names):
        raise ValueError(
            f"{path}: not written, the mask has shape {mask.shape} and classes {mask.min()} to {mask.max()}; expected "
            f"{volume.array.shape} and 0 to {len(names)}: put it back onto the grid of its source, and name every class"
        )
    sources = read_sources(volume)
    by_file = dict(zip(dict.fromkeys(volume.files), map(_reference, sources), strict=True))
    images = [_frame(by_file[file], frame, volume) for file, frame in zip(volume.files, volume.frames, strict=True)]
    structure = _describe_object(sources[0], version)
    structure.ReferencedFrameOfReferenceSequence = [_frame_of_reference(sources[0], list(by_file.values()))]
    structure.StructureSetROISequence = []
    structure.ROIContourSequence = []
    structure.RTROIObservationsSequence = []
    for number, name in enumerate(names, start=1):
        structure.StructureSetROISequence.append(_roi(number, name, sources[0]))
        structure.ROIContourSequence.append(_contours(number, name, mask == number, volume, images))
        structure.RTROIObservationsSequence.append(_observation(number, name))
    with silence_dicom(), write_atomically(path) as temporary:
        structure.save_as(temporary, **_whole_file(structure))


def trace(mask: np.ndarray) -> list[np.ndarray]:
    """Outlines of a 2D mask, with their holes joined in by keyholes.

    Args:
        mask: (rows, columns), bool.

    Returns:
        Closed polygons without a repeated last vertex, (N, 2) as row and column; pixel centres are whole numbers.
    """
    padded = np.pad(mask, 1)
    rings = [ring[:-1] for ring in find_contours(padded.astype(float), 0.5)]
    owner = {tuple(vertex): number for number, ring in enumerate(rings) for vertex in ring}
    corners = [tuple(ring[ring[:, 1].argmax()]) for ring in rings]  # the rightmost, half a pixel beyond a centre
    is_hole = [bool(padded[int(row), int(column + 0.5)]) for row, column in corners]
    polygons = dict(enumerate(rings))
    joined: dict[int, int] = {}
    for number in sorted(range(len(rings)), key=lambda number: corners[number][1], reverse=True):
        if is_hole[number]:
            outer = _right_of(padded, corners[number])
            target = owner[outer]
            while target in joined:
                target = joined[target]
            joined[number] = target
            polygons[target] = _join(polygons[target], outer, polygons.pop(number), corners[number])
    return [polygon - 1 for polygon in polygons.values()]


def _right_of(mask: np.ndarray, corner: tuple[float, float]) -> tuple[float, float]:
    """Where the mask that starts at a hole's rightmost vertex ends, along its row: a vertex of another ring."""
    row, start = int(corner[0]), int(corner[1] + 0.5)
    length = int(np.argmin(mask[row, start:]))
    return float(row), start + length - 0.5


def _join(outer: np.ndarray, exit_at: tuple, hole: np.ndarray, enter_at: tuple) -> np.ndarray:
    """One ring: to the exit, across to the hole, around it, back, and on."""
    first = int(np.flatnonzero((outer == exit_at).all(axis=1))[0])
    start = int(np.flatnonzero((hole == enter_at).all(axis=1))[0])
    around = np.roll(hole, -start, axis=0)
    return np.concatenate([outer[: first + 1], around, around[:1], outer[first:]])


def _contours(number: int, name: str, mask: np.ndarray, volume: DicomVolume, images: list[Dataset]) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(segment_code(name).rgb)
    item.ReferencedROINumber = number
    contours: list[Dataset] = []
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        for polygon in trace(mask[:, :, z].T):
            contours.append(_contour(polygon, int(z), volume, images[z], len(contours) + 1))
    if contours:
        item.ContourSequence = contours
    return item


def _contour(polygon: np.ndarray, z: int, volume: DicomVolume, image: Dataset, number: int) -> Dataset:
    affine = LPS_TO_RAS @ volume.affine
    voxels = np.column_stack([polygon[:, 1], polygon[:, 0], np.full(len(polygon), z)])
    points_mm = voxels @ affine[:3, :3].T + affine[:3, 3]
    contour = Dataset()
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(polygon)
    contour.ContourNumber = number
    contour.ContourData = [f"{value:.4f}" for value in points_mm.ravel()]
    return contour


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


def _frame(reference: Dataset, frame: int, volume: DicomVolume) -> Dataset:
    """A reference to one slice; with its frame number where files hold several."""
    item = Dataset()
    item.update(reference)
    if len(set(volume.files)) < len(volume.files):
        item.ReferencedFrameNumber = frame + 1
    return item


def _frame_of_reference(source: Dataset, images: list[Dataset]) -> Dataset:
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ContourImageSequence = images
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_CLASS, source.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(number: int, name: str, source: Dataset) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = source.FrameOfReferenceUID
    item.ROIName = segment_label(name)
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    return item


def _observation(number: int, name: str) -> Dataset:
    code, item = segment_code(name), Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIIdentificationCodeSequence = [code_item(code.type)]
    if code.modifier is not None:
        item.RTROIIdentificationCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [code_item(code.modifier)]
    item.RTROIInterpretedType = item.ROIInterpreter = ""
    return item


def _describe_object(source: Dataset, version: str) -> FileDataset:
    now = datetime.now()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian  # an explicit one holds no contour of more than 64 KiB
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RT_STRUCTURE_SET, generate_uid()
    structure = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    structure.SpecificCharacterSet = source.SpecificCharacterSet
    structure.SOPClassUID, structure.SOPInstanceUID = RT_STRUCTURE_SET, meta.MediaStorageSOPInstanceUID
    for tag in (*PATIENT, *STUDY):
        setattr(structure, tag, source.get(tag, ""))
    structure.Modality, structure.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    structure.SeriesNumber, structure.InstanceNumber = SERIES_NUMBER, 1
    structure.SeriesDescription, structure.StructureSetLabel = "Structures", "STRUCTURES"
    structure.Manufacturer, structure.ManufacturerModelName, structure.SoftwareVersions = "hidiff_monai", "", version
    structure.OperatorsName = ""
    structure.FrameOfReferenceUID = source.FrameOfReferenceUID
    structure.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    structure.StructureSetDate = structure.InstanceCreationDate = now.strftime("%Y%m%d")
    structure.StructureSetTime = structure.InstanceCreationTime = now.strftime("%H%M%S")
    structure.ApprovalStatus = "UNAPPROVED"
    return structure


def _whole_file(structure: FileDataset) -> dict[str, bool]:
    """How `save_as` is told to complete the file meta information, in pydicom 2 and 3."""
    try:
        from pydicom.pixels import get_decoder  # noqa: F401  # pydicom 3
    except ImportError:
        structure.is_little_endian, structure.is_implicit_VR = True, True
        return {"write_like_original": False}
    return {"enforce_file_format": True}
