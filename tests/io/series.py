"""Made-up DICOM series, with every quirk the reader must know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


def make_volume(shape: tuple[int, int, int] = (6, 5, 4), seed: int = 0) -> np.ndarray:
    """Stored values (X, Y, Z), each different from its mirror image."""
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.uint16)


def lps_affine(
    spacing: tuple[float, float, float], orientation: tuple[float, ...], origin: tuple[float, float, float], tilt: float
) -> np.ndarray:
    """Voxel (column, row, slice) to LPS; ``tilt`` shifts each slice by so many mm down the columns."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * spacing[0], column * spacing[1]
    affine[:3, 2] = np.cross(row, column) * spacing[2] + column * tilt
    affine[:3, 3] = origin
    return affine


def to_ras(affine: np.ndarray) -> np.ndarray:
    """The same map, to nibabel's world."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def header(sop_class: str = CT, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """Patient, study and series, without an image."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = Dataset()
    data.file_meta, data.preamble = meta, bytes(128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Doe^Jane", "ID-4711", "19500102", "F"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240102", "101112", "7", "A1"
    data.ReferringPhysicianName, data.Manufacturer, data.PositionReferenceIndicator = "", "", ""
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 3, 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return data


def set_pixels(data: Dataset, stored: np.ndarray) -> None:
    """Image pixel module for (rows, columns) or (frames, rows, columns) uint16."""
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    is_big = data.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    data.PixelData = stored.astype(">u2" if is_big else "<u2").tobytes()
    data["PixelData"].VR = "OW"


def save(data: Dataset, file: Path) -> Path:
    """Writes a whole file, in the transfer syntax that its header names; by pydicom 2 or 3."""
    file.parent.mkdir(parents=True, exist_ok=True)
    syntax = data.file_meta.TransferSyntaxUID
    is_implicit, is_little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    if int(pydicom.__version__.split(".")[0]) < 3:
        data.is_implicit_VR, data.is_little_endian = is_implicit, is_little
        data.save_as(file, write_like_original=False)
    else:
        data.save_as(file, implicit_vr=is_implicit, little_endian=is_little, enforce_file_format=True)
    return file


def make_series(
    folder: Path,
    stored: np.ndarray,
    spacing: tuple[float, float, float] = (0.7, 0.9, 2.5),
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    tilt: float = 0.0,
    syntax: str = ExplicitVRLittleEndian,
    encode: bool = False,
    **attributes: Any,
) -> list[str]:
    """One file a slice, named so that the natural order is not that of the slices.

    Args:
        folder: is made.
        stored: (X, Y, Z) uint16.
        spacing: along columns, rows and the normal, in mm.
        orientation: ImageOrientationPatient.
        origin: ImagePositionPatient of slice 0.
        tilt: shift of each slice against the last, down the columns, in mm.
        syntax: the transfer syntax.
        encode: whether to compress into ``syntax``, with pydicom.
        attributes: further elements of every file; ``None`` removes one.
    """
    affine = lps_affine(spacing, orientation, origin, tilt)
    files = []
    for z in range(stored.shape[2]):
        data = header(syntax=ExplicitVRLittleEndian if encode else syntax)
        set_pixels(data, stored[:, :, z].T)
        data.ImageOrientationPatient = list(orientation)
        data.ImagePositionPatient = [round(float(value), 6) for value in affine[:3, 3] + z * affine[:3, 2]]
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        data.RescaleSlope, data.RescaleIntercept = 1, -1000
        for name, value in attributes.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
        if encode:
            data.compress(syntax, generate_instance_uid=False)
        files.append(str(save(data, folder / f"im{(7 * z + 3) % stored.shape[2]}.dcm")))
    return files


def make_enhanced(file: Path, stored: np.ndarray, order: list[int], slopes: list[float] | None = None) -> str:
    """An enhanced CT of one file, whose frame i is slice ``order[i]``; with a slope a frame if given."""
    affine = lps_affine((0.7, 0.9, 2.5), OBLIQUE, (-10.0, -20.0, 30.0), 0.0)
    data = header(ENHANCED_CT)
    set_pixels(data, stored.transpose(2, 1, 0)[order])
    data.NumberOfFrames = len(order)
    data.PerFrameFunctionalGroupsSequence = []
    for number, z in enumerate(order):
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [round(float(value), 6) for value in affine[:3, 3] + z * affine[:3, 2]]
        values.RescaleSlope, values.RescaleIntercept = slopes[number] if slopes else 1, -1000
        values.RescaleType = "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
        data.PerFrameFunctionalGroupsSequence.append(frame)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = list(OBLIQUE)
    measures.PixelSpacing, measures.SliceThickness = [0.9, 0.7], 2.5
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    return str(save(data, file))
