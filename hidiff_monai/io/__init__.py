"""Files in and out."""

from hidiff_monai.io.checkpoint import load_weights, read_checkpoint, save_checkpoint
from hidiff_monai.io.files import require_writable, write_atomically

__all__ = ["load_weights", "read_checkpoint", "require_writable", "save_checkpoint", "write_atomically"]
