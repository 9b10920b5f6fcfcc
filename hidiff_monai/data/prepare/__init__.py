"""From a raw download to a datalist: one file a data set, and what they share in `volumes` and `cases`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ..leakage import SECTIONS
from . import acdc, brats, chase_db1, cvc_clinicdb, drive, kvasir_seg, msd, synapse

DATASETS: dict[str, Callable[[Path, Path], Path]] = {
    "acdc": acdc.prepare,
    "brats": brats.prepare,
    "chase_db1": chase_db1.prepare,
    "cvc_clinicdb": cvc_clinicdb.prepare,
    "cvc_clinicdb_sequences": cvc_clinicdb.prepare_by_sequence,
    "drive": drive.prepare,
    "kvasir_seg": kvasir_seg.prepare,
    "msd": msd.prepare,
    "synapse": synapse.prepare,
}


def prepare_dataset(dataset: str, source: str | Path, output: str | Path) -> tuple[Path, Path]:
    """Prepares one of `DATASETS`.

    Args:
        dataset: its name.
        source: the folder that was downloaded; nothing is written there.
        output: the folder for the datalist, and for slices where the set has volumes.

    Returns:
        dataset_dir (the folder that the datalist's paths are relative to) and the datalist.

    Raises:
        ValueError: if the name or the source is wrong, or any raw file is: the message names all of them.
    """
    if dataset not in DATASETS:
        raise ValueError(f"got dataset '{dataset}'; expected one of {sorted(DATASETS)}")
    raw, prepared = (Path(folder).expanduser().absolute() for folder in (source, output))
    if not raw.is_dir():
        raise ValueError(f"source {raw} is not a folder; expected the unpacked download: correct source")
    datalist = DATASETS[dataset](raw, prepared)
    content = json.loads(datalist.read_text(encoding="utf-8"))
    first = next(case for name in SECTIONS for case in content.get(name, []))
    return prepared if (prepared / first["image"]).is_file() else raw, datalist


__all__ = ["DATASETS", "prepare_dataset"]
