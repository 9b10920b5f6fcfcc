"""What the evaluate workflow left on disk, read and checked; and refined against prior, case by case."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hidiff_monai.metrics import array_name, paired_bootstrap, read_cases, without_background

CONFIGS = "bundles/<bundle>/configs"
EVALUATE_COMMAND = f"python -m monai.bundle run --config_file \"['{CONFIGS}/train.json','{CONFIGS}/evaluate.json']\""
TRAIN_COMMAND = f"python -m monai.bundle run training --config_file {CONFIGS}/train.json"

PHOTOGRAPH_KEYS = ("image", "prior", "refined", "entropy", "threshold")
CASE_KEYS = (*PHOTOGRAPH_KEYS, "label", "region")
TRAJECTORY_KEYS = ("states", "estimates", "timesteps", "image", "label")
HISTORY_COLUMNS = ("epoch", "phase", "loss_segmentor", "loss_refiner", "val_dice_prior", "val_dice_refined")

FIELD_OF_VIEW = "field of view"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """Dice of every case in one region, before and after the refiner.

    Attributes:
        region: where pixels were counted.
        cases: names, N, in the order of the evaluation.
        prior: (N,), Dice in [0, 1]; the mean over targets where there are several, without a background.
        refined: (N,), likewise.
        targets: names of the structures, one or more; of classes that exclude each other "background" too.
        interval: bounds of the 95 % paired bootstrap interval of the mean gain over patients; None for a single one.
    """

    region: str
    cases: tuple[str, ...]
    prior: np.ndarray
    refined: np.ndarray
    targets: tuple[str, ...]
    interval: tuple[float, float] | None

    @property
    def gain(self) -> np.ndarray:
        """Refined minus prior, (N,)."""
        return self.refined - self.prior

    def array_names(self, case: str) -> list[str]:
        """What the case's files of arrays are called: one a target."""
        return [array_name(case, target, self.targets) for target in self.targets]


def read_rows(evaluation_dir: Path, name: str = "cases") -> list[dict[str, Any]]:
    """The rows of `cases.json`, or with the name "slices" of `slices.json`, which only volumes have.

    Raises:
        ValueError: the file is missing or unreadable, or its rows lack a key.
    """
    path = evaluation_dir / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; expected the scores of every case: make it with\n  {EVALUATE_COMMAND}")
    try:
        rows = read_cases(evaluation_dir, name)
    except (json.JSONDecodeError, AttributeError) as error:
        message = f"{path} is not a JSON list of rows ({error}): make it anew with\n  {EVALUATE_COMMAND}"
        raise ValueError(message) from error
    if not rows:
        raise ValueError(f"{path} holds no rows; expected one a case and method: check the datalist's section")
    for key in ("case", "method", "region", "dice"):
        if any(key not in row for row in rows):
            raise ValueError(f"{path} has a row without {key!r}: make it anew with\n  {EVALUATE_COMMAND}")
    return rows


def read_conventions(evaluation_dir: Path) -> list[str]:
    """The sentences of `summary.json` that say how each score is defined.

    Raises:
        ValueError: the file is missing or unreadable.
    """
    path = evaluation_dir / "summary.json"
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["conventions"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}): make it with\n  {EVALUATE_COMMAND}") from error


def read_arrays(path: Path, keys: Sequence[str]) -> Arrays:
    """The arrays of one `.npz`; a text in it is an array of shape ().

    Raises:
        ValueError: the file is missing, is no archive, or lacks a key.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; expected {', '.join(keys)}: make it with\n  {EVALUATE_COMMAND}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not an .npz of plain arrays ({error}): make it anew") from error
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; expected {', '.join(keys)}: make it anew")
    return arrays | {"image": _as_rgb(arrays["image"])}


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1) or (H, W, C) to (H, W, 3); of many channels that are no colours, the first, in grey."""
    channels = image if image.ndim == 3 else image[..., None]
    return channels if channels.shape[-1] == 3 else np.repeat(channels[..., :1], 3, axis=-1)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of `history.csv`, numbers as floats, an empty cell as None.

    Raises:
        ValueError: the file is missing, empty, lacks a column, or holds text in the place of a number.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; expected one row an epoch: make it with\n  {TRAIN_COMMAND}")
    with path.open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    missing = [name for name in HISTORY_COLUMNS if not records or name not in records[0]]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; expected a header and one row an epoch: make it anew")
    try:
        return [_history_row(record) for record in records]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds what is no number ({error}): make it anew with\n  {TRAIN_COMMAND}") from error


def _history_row(record: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: float(record[name]) if record[name] else None for name in HISTORY_COLUMNS if name != "phase"}
    return numbers | {"epoch": float(record["epoch"]), "phase": record["phase"]}


def compare(rows: Sequence[dict[str, Any]]) -> Comparison:
    """Pair refined with prior in the field of view, as the pictures do, or where there is none in the first region.

    Raises:
        ValueError: a method is missing, or a case has only one of the two.
    """
    region = FIELD_OF_VIEW if any(row["region"] == FIELD_OF_VIEW for row in rows) else rows[0]["region"]
    dice: dict[str, dict[str, list[float]]] = {"prior": {}, "refined": {}}
    for row in without_background(rows):
        if row["region"] == region and row["method"] in dice:
            dice[row["method"]].setdefault(str(row["case"]), []).append(row["dice"])
    if dice["prior"].keys() != dice["refined"].keys() or not dice["prior"]:
        alone = sorted(dice["prior"].keys() ^ dice["refined"].keys())
        raise ValueError(f"cases.json has {alone or 'no case'} unpaired; expected each case as prior and as refined")
    cases = tuple(dice["prior"])
    prior, refined = (np.array([np.mean(dice[method][case]) for case in cases]) for method in ("prior", "refined"))
    patient_of = {str(row["case"]): str(row.get("patient", row["case"])) for row in rows}
    patients = [patient_of[case] for case in cases]
    interval = paired_bootstrap(refined - prior, patients) if len(set(patients)) > 1 else None
    targets = tuple(dict.fromkeys(str(row.get("target", "")) for row in rows))
    return Comparison(region, cases, prior, refined, targets, interval)
