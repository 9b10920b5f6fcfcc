"""The files of a case: mask and uncertainty on the source grid, in the format that came in; and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hidiff_monai
from hidiff_monai.io import (
    DicomVolume,
    on_source_grid,
    read_photograph,
    write_photograph_maps,
    write_rtstruct,
    write_segmentation,
    write_uncertainty,
    write_volume_maps,
)
from hidiff_monai.io.geometry import upright
from hidiff_monai.io.images import brighten, stretch
from hidiff_monai.prediction.case import CaseMaps
from hidiff_monai.report import case_picture


def source_volume(meta: dict[str, Any]) -> DicomVolume:
    """The series a case came from, without its voxels, for whatever refers to its slices."""
    return DicomVolume(
        array=np.broadcast_to(np.int16(0), [int(size) for size in meta["source_shape"]]),
        affine=np.asarray(meta["source_affine"], float),
        files=tuple(meta["slice_files"]),
        modality=meta["modality"],
        frames=tuple(meta["slice_frames"]),
    )


def write_case(stem: Path, maps: CaseMaps, names: Sequence[str], algorithm: str, rtstruct: bool) -> dict[str, str]:
    """Writes a case's mask and uncertainty, and on request the RTSTRUCT of a DICOM series.

    Args:
        stem: folder and beginning of the names.
        maps: of the case.
        names: of the classes 1 ... K.
        algorithm: its name, for DICOM.
        rtstruct: whether a DICOM series gets a structure set too.

    Returns:
        The names of the files: "mask", "uncertainty" and, where it was written, "rtstruct".

    Raises:
        ValueError: as the writers do.
    """
    if maps.refined.ndim == 2:
        mask = maps.refined * 255 if len(names) == 1 else maps.refined
        files = write_photograph_maps(stem, {"mask": mask}, maps.entropy, int(maps.meta["orientation"]))
        return dict(zip(("mask", "uncertainty"), (file.name for file in files), strict=True))
    mask, entropy = (on_source_grid(values, maps.meta) for values in (maps.refined, maps.entropy))
    if "slice_files" not in maps.meta:
        files = write_volume_maps(stem, mask, entropy, maps.meta)
        return dict(zip(("mask", "uncertainty"), (file.name for file in files), strict=True))
    volume, version = source_volume(maps.meta), hidiff_monai.__version__
    named = {key: stem.with_name(f"{stem.name}_{ending}.dcm") for key, ending in _DICOM_ENDINGS.items()}
    write_segmentation(named["mask"], mask, volume, names, algorithm, version)
    write_uncertainty(named["uncertainty"], entropy, volume, algorithm, version)
    if rtstruct:
        write_rtstruct(named["rtstruct"], mask, volume, names, version)
    return {key: file.name for key, file in named.items() if key != "rtstruct" or rtstruct}


_DICOM_ENDINGS = {"mask": "mask", "uncertainty": "entropy", "rtstruct": "rtstruct"}


def draw_case(maps: CaseMaps, names: Sequence[str], label: np.ndarray | None, number: int | None) -> bytes:
    """The case's picture for the report, as PNG.

    Args:
        maps: of the case.
        names: of the classes.
        label: class numbers on the case's grid, or None.
        number: the slice to show of a volume; None for a photograph.
    """
    if number is None:
        picture = brighten(read_photograph(maps.meta["filename_or_obj"]).pixels)
        return case_picture(picture, maps.prior, maps.refined, maps.entropy, names, label)

    def plane(values: np.ndarray) -> np.ndarray:
        return upright(values[..., number], bool(maps.meta.get("acquired")))

    grey = np.repeat(stretch(plane(maps.image[0]))[..., None], 3, axis=-1)
    prior, refined, entropy = (plane(values) for values in (maps.prior, maps.refined, maps.entropy))
    return case_picture(grey, prior, refined, entropy, names, None if label is None else plane(label))
