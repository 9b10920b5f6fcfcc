"""From what a data set's site delivers to a checked datalist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import chase_db1, cvc_clinicdb, drive, kvasir_seg

DATASETS: dict[str, Callable[[Path, Path], Path]] = {
    "chase_db1": chase_db1.prepare,
    "cvc_clinicdb": cvc_clinicdb.prepare,
    "cvc_clinicdb_sequences": cvc_clinicdb.prepare_by_sequence,
    "drive": drive.prepare,
    "kvasir_seg": kvasir_seg.prepare,
}

__all__ = ["DATASETS"]
