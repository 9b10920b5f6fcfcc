"""DICOM headers, read without a word about the patient.

pydicom and highdicom quote header values in exceptions, warnings and log lines: of these, only an exception's class is
passed on.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from hidiff_monai.io.dicom_volume import DicomVolume

PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
IMAGE = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PositionReferenceIndicator"),
    *("Modality", "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
ALLOWED = {
    "PatientBirthDate": r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyDate": r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "PatientSex": "[MFO]",
    "PatientID": ".{,64}",
    "StudyID": ".{,16}",
    "AccessionNumber": ".{,16}",
}

UNREADABLE = (
    *(InvalidDicomError, OSError, ValueError, TypeError, AttributeError, LookupError, EOFError, RuntimeError),
    *(BytesLengthException, ArithmeticError, AssertionError, MemoryError, struct.error, zlib.error),
)


@contextmanager
def silence_dicom() -> Iterator[None]:
    """Keeps the warnings and log lines of pydicom and highdicom back, and puts everything as it was."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def natural_order(text: str | Path) -> list[tuple[int, str]]:
    """Sorting key under which "slice10" follows "slice9"."""
    parts = re.split(r"([0-9]+)", str(text))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read_dataset(file: str | Path, tags: Sequence[str] | None = None, with_pixels: bool = False) -> Dataset:
    """Reads one file, also without a preamble, and makes sure that its transfer syntax is known.

    Args:
        file: the file.
        tags: keywords of what to read; None for everything.
        with_pixels: whether to read pixel data too.

    Raises:
        ValueError: if it cannot be read; the message holds nothing of its content.
    """
    try:
        with silence_dicom():
            specific = None if tags is None else list(tags)
            data = pydicom.dcmread(file, stop_before_pixels=not with_pixels, specific_tags=specific, force=True)
            if not data.SOPClassUID:
                raise ValueError("no SOP class")
            _complete_meta(data)
            return data
    except UNREADABLE as error:
        raise unreadable(file, error) from None


def unreadable(file: str | Path, error: Exception) -> ValueError:
    """What to raise, ``from None``, when pydicom gave up on a file."""
    return ValueError(
        f"{file}: is truncated or no DICOM file ({type(error).__name__}); expected a whole one: copy or export it again"
    )


def _complete_meta(data: Dataset) -> None:
    """A file without a preamble does not say how it is encoded; pydicom has found out."""
    if not hasattr(data, "file_meta"):
        data.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in data.file_meta:
        explicit = ExplicitVRLittleEndian if data.is_little_endian else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if data.is_implicit_VR else explicit


def read_sources(volume: DicomVolume) -> list[Dataset]:
    """Headers of a volume's files, in the order of the slices, with what an object made from them must repeat.

    That is: the type 1 and 2 attributes of patient and study, the ids of the images, and their geometry. Values that
    the standard does not allow (a date like "31.12.1950") become empty; text is UTF-8. A series without a
    FrameOfReferenceUID gets one that follows from its own UID.

    Raises:
        ValueError: if a file cannot be read any more, or does not say which study it belongs to.
    """
    files = list(dict.fromkeys(volume.files))
    sources = [_strip(file, read_dataset(file, [*PATIENT, *STUDY, *IMAGE])) for file in files]
    frame_of_reference = sources[0].get("FrameOfReferenceUID") or generate_uid(
        entropy_srcs=[str(sources[0].SeriesInstanceUID)]  # every object made from this series is in the same one
    )
    geometry = _geometry(volume.affine)
    for source in sources:
        source.FrameOfReferenceUID = frame_of_reference
        with silence_dicom():
            _place(source, *geometry)
    return sources


def _geometry(affine: np.ndarray) -> tuple[Dataset, Dataset]:
    """Orientation and pixel measures that all slices of a volume share; the gap is taken along the normal."""
    axes, edges_mm = affine[:3, :2].T * [-1.0, -1.0, 1.0], np.linalg.norm(affine[:3, :2], axis=0)
    normal = np.cross(*affine[:3, :2].T) / edges_mm.prod()
    gap_mm = f"{abs(float(normal @ affine[:3, 2])):.8g}"
    plane, measures = Dataset(), Dataset()
    plane.ImageOrientationPatient = [f"{value:.10f}" for value in (axes / edges_mm[:, None]).ravel()]
    measures.PixelSpacing = [f"{edge:.10g}" for edge in edges_mm[::-1]]
    measures.SliceThickness = measures.SpacingBetweenSlices = gap_mm
    return plane, measures


def _place(source: Dataset, plane: Dataset, measures: Dataset) -> None:
    """Makes the geometry explicit where highdicom looks for it, whether the source is one slice or has many frames."""
    if "PerFrameFunctionalGroupsSequence" not in source:
        source.update(plane)
        source.update(measures)
        return
    given = next(iter(source.get("SharedFunctionalGroupsSequence", [])), Dataset())
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    frames = []
    for group in source.PerFrameFunctionalGroupsSequence:
        frame = Dataset()
        frame.PlanePositionSequence = group.get("PlanePositionSequence") or given.PlanePositionSequence
        frames.append(frame)
    source.SharedFunctionalGroupsSequence, source.PerFrameFunctionalGroupsSequence = [shared], frames


def _strip(file: str, data: Dataset) -> Dataset:
    source = Dataset()
    source.file_meta = data.file_meta
    source.SpecificCharacterSet = "ISO_IR 192"
    with silence_dicom():
        for tag in (*PATIENT, *STUDY):
            setattr(source, tag, _text(data, tag))
        for tag in IMAGE:
            if tag in data and data[tag].value not in (None, ""):
                setattr(source, tag, data[tag].value)
    missing = [tag for tag in IDENTIFIERS if not source.get(tag)]
    if missing:
        raise ValueError(f"{file}: {', '.join(missing)} is missing; expected an image of a study: export it again")
    return source


def _text(data: Dataset, tag: str) -> str:
    """A value as text, empty where the standard does not allow it."""
    try:
        value = str(data.get(tag) or "")
    except UNREADABLE:
        return ""
    return value if re.fullmatch(ALLOWED.get(tag, ".*"), value) else ""
