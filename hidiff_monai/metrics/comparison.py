"""Two methods on the same cases: every score before and after, its difference, and how sure that is; over seeds too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cases import ALL_METRICS, HD95_UNITS, present_metrics
from .conventions import DICE_CONVENTIONS
from .overlap import ConfusionCounts
from .statistics import paired_bootstrap, paired_wilcoxon

Row = Mapping[str, Any]
COMPARED = (*DICE_CONVENTIONS, *(name for name in ALL_METRICS if name != "dice"))
AVERAGE = "average"
BACKGROUND = "background"  # of classes that exclude each other: scored, but in no average


def without_background(entries: Sequence[Row]) -> list[Row]:
    """Those of the structures, of rows or whatever else has a "target"."""
    return [entry for entry in entries if entry.get("target") != BACKGROUND]


@dataclass(frozen=True)
class ComparedScore:
    """One score of one target in one region, by two methods, over the cases where both are defined with every seed.

    Attributes:
        region: where pixels were counted.
        target: the structure, or "average": a case's mean over the structures that count in it, without a background.
        score: a name of COMPARED; HD95 in mm only where the rows have it.
        unit: "%", or "mm" or "voxels" for HD95.
        methods: their names, the second is compared with the first.
        means: one a method.
        sds: over seeds where there are several, else over cases (n - 1); NaN where there is only one.
        undefined: share of cases, seeds and averaged targets, in [0, 1], where it is undefined, one a method.
        difference: mean of second minus first.
        interval: bounds of its 95 % paired bootstrap interval over patients; None below two patients.
        p_value: of the paired Wilcoxon signed-rank test over patients; None below two patients.
        cases: how many count.
        patients: of how many patients (or video sequences) they are; a case of which that is unknown is one of its own.
        seeds: number of evaluations; a case's score is its mean over them before it is compared.
    """

    region: str
    target: str
    score: str
    unit: str
    methods: tuple[str, str]
    means: tuple[float, float]
    sds: tuple[float, float]
    undefined: tuple[float, float]
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    cases: int
    patients: int
    seeds: int


def compare_methods(
    evaluations: Sequence[Sequence[Row]], methods: tuple[str, str] = ("prior", "refined")
) -> list[ComparedScore]:
    """Compares two methods in every region, target and score, and on average over several targets.

    Args:
        evaluations: the rows of `read_cases`, one list an evaluation: the same cases under several seeds, or one alone.
        methods: before and after.

    Raises:
        ValueError: if there are no rows, a method is missing, not every case has both methods in every evaluation, or
            a case has another label in another evaluation.
    """
    if not evaluations or not all(evaluations):
        raise ValueError("no rows to compare; expected at least one evaluation with rows: check the folders")
    has_mm = "hd95_mm" in present_metrics([row for rows in evaluations for row in rows])
    compared = []
    for region in dict.fromkeys(str(row["region"]) for row in evaluations[0]):
        inside = [[row for row in rows if row["region"] == region and row["method"] in methods] for rows in evaluations]
        targets, patients, values = _table(inside, methods)
        for number, score in enumerate(COMPARED if has_mm else COMPARED[:-1]):
            unit = HD95_UNITS.get(score, "%")
            scale = 100 if unit == "%" else 1
            for target, members in _with_average(targets, scale * values[number]).items():
                compared.append(ComparedScore(region, target, score, unit, methods, **_compare(members, patients)))
    return compared


def _table(evaluations: list[list[Row]], methods: tuple[str, str]) -> tuple[list[str], np.ndarray, np.ma.MaskedArray]:
    """Names of the targets, the patient of each case, and one region's scores, (scores, targets, seeds, 2, cases).

    NaN where a score is undefined; masked where a target is not scored in a case, because it is not small there.
    """
    scores = [{_key(row): _scores(row) for row in rows} for rows in evaluations]
    targets = list(dict.fromkeys(target for target, _, _ in scores[0]))
    cases = sorted({case for _, case, _ in scores[0]})
    expected = {(target, case, method) for target, case, _ in scores[0] for method in methods}
    for rows, found in zip(evaluations, scores, strict=True):
        alone = sorted(found.keys() ^ expected)
        if alone or len(found) != len(rows):
            raise ValueError(
                f"{' '.join(alone[0]) if alone else 'a case'} is not there once in every evaluation; expected the same "
                f"cases and targets by {methods[0]} and {methods[1]} in each: evaluate all on the same section"
            )
    _require_same_labels(evaluations)
    absent = [math.nan] * len(COMPARED)
    values = [
        [[[found.get((target, case, method), absent) for case in cases] for method in methods] for found in scores]
        for target in targets
    ]
    is_absent = [[(target, case, methods[0]) not in expected for case in cases] for target in targets]
    table = np.moveaxis(np.array(values), -1, 0)
    patient_of = {str(row["case"]): str(row.get("patient", row["case"])) for row in evaluations[0]}
    patients = np.array([patient_of[case] for case in cases])
    mask = np.broadcast_to(np.array(is_absent)[:, None, None], table.shape)
    return targets, patients, np.ma.masked_array(table, mask)


def _require_same_labels(evaluations: list[list[Row]]) -> None:
    """Other images under the same names are no other seeds: the label's size gives them away."""
    sizes: dict[tuple[str, str], int] = {}
    for row in (row for rows in evaluations for row in rows):
        target, case, _ = _key(row)
        size = int(row["tp"]) + int(row["fn"])
        if sizes.setdefault((target, case), size) != size:
            raise ValueError(
                f"the label of case {case} has {sizes[target, case]} pixels here and {size} there; expected "
                f"the same images in every evaluation: name folders that differ in the seed only"
            )


def _key(row: Row) -> tuple[str, str, str]:
    return str(row.get("target", "")), str(row["case"]), str(row["method"])


def _with_average(targets: list[str], values: np.ma.MaskedArray) -> dict[str, np.ma.MaskedArray]:
    """Scores of each target, (targets of the group, seeds, 2, cases); the average first where there are several."""
    single = {target: members[None] for target, members in zip(targets, values, strict=True)}
    structures = [i for i, target in enumerate(targets) if target != BACKGROUND]
    return {AVERAGE: values[structures], **single} if len(targets) > 1 else single


def _scores(row: Row) -> list[float]:
    counts = ConfusionCounts(*(int(row[name]) for name in ConfusionCounts._fields))
    others = [float(row.get(name, math.nan)) for name in COMPARED if name not in DICE_CONVENTIONS]
    return [*(convention(counts) for convention in DICE_CONVENTIONS.values()), *others]


def _compare(values: np.ma.MaskedArray, patients: np.ndarray) -> dict[str, Any]:
    """Everything but the names of a ComparedScore, from (targets, seeds, 2, cases) and each case's patient."""
    data = values.filled(math.nan)
    is_paired = np.isfinite(data).all(axis=(1, 2), keepdims=True)
    per_case = _mean(np.where(is_paired, data, math.nan), axis=0)  # (seeds, 2, cases): a case's mean over targets
    is_defined = np.isfinite(per_case).all(axis=(0, 1))
    per_case, patients = per_case[..., is_defined], patients[is_defined]
    over_seeds = per_case.mean(axis=0)  # (2, cases)
    spread = per_case.mean(axis=2).T if len(per_case) > 1 and per_case.size else over_seeds
    differences = over_seeds[1] - over_seeds[0]
    num_patients = len(set(patients))
    return {
        "means": tuple(float(mean) for mean in _mean(over_seeds, axis=1)),
        "sds": tuple(float(np.std(row, ddof=1)) if len(row) > 1 else math.nan for row in spread),
        "undefined": tuple(float(np.isnan(values[:, :, method].compressed()).mean()) for method in (0, 1)),
        "difference": float(_mean(differences, axis=0)),
        "interval": paired_bootstrap(differences, patients) if num_patients > 1 else None,
        "p_value": paired_wilcoxon(differences, patients) if num_patients > 1 else None,
        "cases": len(differences),
        "patients": num_patients,
        "seeds": len(per_case),
    }


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is defined; NaN where nothing is."""
    count = np.isfinite(values).sum(axis=axis)
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), math.nan)
