"""Files in and out."""

from hidiff_monai.io.checkpoint import (
    check_architecture,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    with_segmentor,
    with_weights,
)
from hidiff_monai.io.command_line import guard_command_line, require_known_key
from hidiff_monai.io.dicom import DicomSeries, find_series
from hidiff_monai.io.dicom_seg import (
    read_segmentation,
    read_segments,
    require_highdicom,
    write_segmentation,
    write_uncertainty,
)
from hidiff_monai.io.dicom_volume import DicomVolume, read_series
from hidiff_monai.io.files import hash_file, list_images, require_writable, write_atomically
from hidiff_monai.io.geometry import restore_to_source
from hidiff_monai.io.images import read_photograph, write_mask
from hidiff_monai.io.predictions import (
    SavePrediction,
    SaveVolumePrediction,
    on_source_grid,
    write_photograph_maps,
    write_volume_maps,
)
from hidiff_monai.io.rtstruct import write_rtstruct

__all__ = [
    "DicomSeries",
    "DicomVolume",
    "SavePrediction",
    "SaveVolumePrediction",
    "check_architecture",
    "find_series",
    "guard_command_line",
    "hash_file",
    "list_images",
    "load_weights",
    "on_source_grid",
    "read_checkpoint",
    "read_photograph",
    "read_segmentation",
    "read_segments",
    "read_series",
    "require_highdicom",
    "require_known_key",
    "require_writable",
    "restore_to_source",
    "save_checkpoint",
    "with_segmentor",
    "with_weights",
    "write_atomically",
    "write_mask",
    "write_photograph_maps",
    "write_rtstruct",
    "write_segmentation",
    "write_uncertainty",
    "write_volume_maps",
]
