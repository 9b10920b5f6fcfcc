"""Calibration of an evaluation: per case, pooled over cases, and on disk as `calibration.json`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hidiff_monai.io import write_atomically

from .calibration_sums import NUM_BINS, ProbabilitySums
from .retention import NUM_POINTS, ErrorRetention
from .statistics import correlation_interval, rank_correlation

CALIBRATION_FILE = "calibration.json"
METHODS = ("prior", "refined")
SCORES = ("ece", "brier", "nll")
CONVENTIONS = (
    "Pixels: those of the region named, background included, of one structure against all else. Sure background makes "
    "ECE, Brier score and loss small: compare them only on the same region.",
    f"ECE: mean over pixels of |mean probability - share of structure| in {NUM_BINS} equal-width bins of the "
    "structure's probability. Brier: mean of (p - y)^2. nll: mean of -log of the label's probability, nats.",
    "pooled: one figure of all cases' pixels together, which weighs a case by its pixels. mean_over_cases: each case "
    "by itself, then their mean; sd with n - 1. A case's own ECE tends to be larger: in the pool, gaps of opposite "
    "sign cancel.",
    f"retention: share of all pixels that are wrong in the refined mask among the r least uncertain (by entropy), at "
    f"{NUM_POINTS} values of r from 0 to 1; mean over cases. area: below it; ideal_area e^2/2 with all errors last, "
    "random_area e/2 with an order that says nothing, e the case's error rate; each a mean over cases.",
    "spearman: rank correlation over cases of uncertainty (entropy in nats per pixel of the refined mask) and Dice of "
    "the refined mask; cases with an empty refined mask are left out. interval: 95 %, patients drawn with replacement.",
)


@dataclass(frozen=True)
class CaseCalibration:
    """One case and one structure.

    Attributes:
        case: its name.
        target: the structure's.
        region: where pixels were counted.
        sums: of *prior* and *refined* probability.
        retention: errors of the refined mask, ordered by entropy.
    """

    case: str
    target: str
    region: str
    sums: Mapping[str, ProbabilitySums]
    retention: ErrorRetention


def write_calibration(
    cases: Sequence[CaseCalibration], rows: Sequence[Mapping[str, Any]], folder: str | os.PathLike[str], exclusive: bool
) -> None:
    """Write `calibration.json`: `conventions`, `exclusive`, `targets` (see `summarise_target`) and `cases`.

    Args:
        cases: of one region a structure, one or more.
        rows: the evaluation's, for Dice and uncertainty.
        folder: made if missing.
        exclusive: whether the network's classes exclude each other.
    """
    targets = dict.fromkeys(case.target for case in cases)
    summary = {
        "conventions": CONVENTIONS,
        "exclusive": exclusive,
        "targets": [summarise_target([case for case in cases if case.target == name], rows) for name in targets],
        "cases": [_case_record(case) for case in cases],
    }
    with write_atomically(Path(folder) / CALIBRATION_FILE) as temporary:
        temporary.write_text(_format(summary), encoding="utf-8")


def read_calibration(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What `write_calibration` wrote; None where there is no such file, as in older evaluations.

    Raises:
        ValueError: the file is not JSON, or lacks a key.
    """
    path = Path(folder) / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = {"conventions", "exclusive", "targets", "cases"} - set(content)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is not JSON ({error}): evaluate again, or remove it") from error
    if missing:
        raise ValueError(f"{path} lacks {sorted(missing)}: evaluate again, or remove it")
    return content


def summarise_target(cases: Sequence[CaseCalibration], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures of one structure.

    Args:
        cases: all of it.
        rows: of the evaluation, others are passed over.

    Returns:
        `target`, `region`, `n` cases, `pixels`; for *prior* and *refined* a dict with `pooled` (scores, and `bins` with
        counts, mean probability and frequency) and `mean_over_cases`; `retention`; `correlation`.
    """
    target, region = cases[0].target, cases[0].region
    summary: dict[str, Any] = {"target": target, "region": region, "n": len(cases)}
    for method in METHODS:
        pooled = sum((case.sums[method] for case in cases[1:]), cases[0].sums[method])
        bins = pooled.bins
        shown = {"counts": bins.counts, "mean_probability": bins.mean_probability, "frequency": bins.frequency}
        scores = [case.sums[method].scores() for case in cases]
        means = {name: _spread([score[name] for score in scores]) for name in SCORES}
        summary["pixels"] = pooled.number
        summary[method] = {"pooled": {**pooled.scores(), "bins": shown}, "mean_over_cases": means}
    retentions = [case.retention for case in cases]
    names = ("area", "ideal_area", "random_area", "error_rate")
    summary["retention"] = {name: float(np.mean([getattr(item, name) for item in retentions])) for name in names}
    summary["retention"]["curve"] = np.mean([item.curve for item in retentions], axis=0)
    mine = [row for row in rows if (row["target"], row["region"], row["method"]) == (target, region, "refined")]
    return {**summary, "correlation": correlate(mine)}


def correlate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spearman's rank correlation of uncertainty and Dice over the rows of one structure, one a case.

    Returns:
        `n` cases that have a mask, `patients`, `spearman` and `interval`, both NaN or None where undefined.
    """
    known = [row for row in rows if row["tp"] + row["fp"] > 0]
    uncertainty, dice = (np.array([row[key] for row in known], float) for key in ("uncertainty", "dice"))
    patients = [str(row["patient"]) for row in known]
    return {
        "n": len(known),
        "patients": len(set(patients)),
        "spearman": rank_correlation(uncertainty, dice),
        "interval": correlation_interval(uncertainty, dice, patients),
    }


def _case_record(case: CaseCalibration) -> dict[str, Any]:
    retention = case.retention
    return {
        "case": case.case,
        "target": case.target,
        "pixels": case.sums["refined"].number,
        **{method: case.sums[method].scores() for method in METHODS},
        "retention": {name: getattr(retention, name) for name in ("area", "ideal_area", "random_area", "error_rate")},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan}


def _format(summary: Mapping[str, Any]) -> str:
    """A line a key; what a list holds, a line an entry."""
    lines = []
    for key, value in summary.items():
        text = json.dumps(_plain(value), ensure_ascii=False)
        if isinstance(value, (list, tuple)):
            text = "[\n" + ",\n".join(f"  {json.dumps(_plain(item), ensure_ascii=False)}" for item in value) + "\n]"
        lines.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(value: Any) -> Any:
    """What JSON can hold: no arrays, NaN as null, six significant digits."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return int(value) if isinstance(value, np.integer) else value
