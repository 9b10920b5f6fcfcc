"""Files in and out."""

from hidiff_monai.io.checkpoint import check_architecture, load_weights, read_checkpoint, save_checkpoint
from hidiff_monai.io.command_line import guard_command_line, require_known_key
from hidiff_monai.io.files import list_images, require_writable, write_atomically
from hidiff_monai.io.geometry import restore_to_source
from hidiff_monai.io.predictions import SavePrediction, SaveVolumePrediction

__all__ = [
    "SavePrediction",
    "SaveVolumePrediction",
    "check_architecture",
    "guard_command_line",
    "list_images",
    "load_weights",
    "read_checkpoint",
    "require_known_key",
    "require_writable",
    "restore_to_source",
    "save_checkpoint",
    "write_atomically",
]
