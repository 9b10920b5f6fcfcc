"""Every row of an ablation against the segmentor that was trained on alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidiff_monai.ablation.variants import ALONE, AS_BUNDLE, Sampling, Variant
from hidiff_monai.metrics import AVERAGE, ComparedScore, compare_methods
from hidiff_monai.report import read_rows

BASELINE, CANDIDATE = "segmentor alone", "variant"


@dataclass(frozen=True)
class Line:
    """A row of the table; Dice in percent, HD95 in voxels, over whole images or volumes.

    Attributes:
        name: of the variant.
        title: what the table calls it.
        loss: "BCE" or "focal"; "" where no refiner is trained.
        collaborates: whether f learns through g.
        has_xformer: whether the refiner has an X-Former.
        is_binarized: whether it is binarized.
        sampling: how masks are drawn.
        cases: n.
        patients: of how many patients they are.
        prior: mean Dice of the variant's own prior.
        dice: mean Dice of its mask.
        difference: of that to the segmentor alone, mean over cases.
        interval: its 95 % paired bootstrap interval over patients; None for a single one.
        p_value: of the paired Wilcoxon test over patients.
        gain: difference to its own prior.
        gain_interval: likewise.
        hd95: mean, of the mask.
        hd95_undefined: share of cases where that is undefined, in [0, 1].
    """

    name: str
    title: str
    loss: str
    collaborates: bool
    has_xformer: bool
    is_binarized: bool
    sampling: str
    cases: int
    patients: int
    prior: float
    dice: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    gain: float
    gain_interval: tuple[float, float] | None
    hd95: float
    hd95_undefined: float

    @property
    def has_refiner(self) -> bool:
        """Whether the mask is a refined one."""
        return bool(self.loss)


def score_line(
    baseline: Sequence[Path],
    evaluations: Sequence[Path],
    method: str,
    variant: Variant,
    sampling: Sampling = AS_BUNDLE,
) -> Line:
    """Compares a variant's masks with the baseline's prior, case by case.

    Args:
        baseline: folders of the evaluations of the segmentor alone, one a seed.
        evaluations: of the variant, for the same seeds.
        method: "prior" or "refined", the mask of the variant that counts.
        variant: what was trained.
        sampling: how masks were drawn.
    """
    rows = [read_rows(folder) for folder in evaluations]
    paired = [
        [*_select(read_rows(folder), "prior", BASELINE), *_select(own, method, CANDIDATE)]
        for folder, own in zip(baseline, rows, strict=True)
    ]
    against = {score.score: score for score in _average(compare_methods(paired, (BASELINE, CANDIDATE)))}
    own = next(score for score in _average(compare_methods(rows)) if score.score == "dice")
    has_refiner = method == "refined"
    dice, hd95 = against["dice"], against["hd95"]
    return Line(
        variant.name,
        variant.title,
        variant.loss if has_refiner else "",
        variant.collaborates and has_refiner,
        variant.has_xformer and has_refiner,
        variant.is_binarized and has_refiner,
        sampling.title if has_refiner else "",
        dice.cases,
        dice.patients,
        own.means[0],
        dice.means[1],
        dice.difference,
        dice.interval,
        dice.p_value,
        own.difference,
        own.interval,
        hd95.means[1],
        hd95.undefined[1],
    )


def format_markdown(lines: Sequence[Line], num_seeds: int = 1) -> str:
    """The table, and what its columns mean.

    Args:
        lines: its rows.
        num_seeds: trainings behind each.
    """
    head = (
        "row",
        "loss",
        "collaborative",
        "X-Former",
        "binarized",
        "sampler",
        "Dice % own prior",
        "Dice % mask",
        "to the segmentor alone (95 %)",
        "p",
        "to its own prior (95 %)",
        "HD95 (NaN)",
    )
    rows = [head, ("---",) * len(head), *map(_cells, lines)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    first = lines[0]
    trainings = "one training" if num_seeds == 1 else f"{num_seeds} trainings"
    return (
        f"{table}\n\n{first.cases} cases of {first.patients} patients, {trainings} a row; means over cases (and seeds) "
        "of whole images or volumes; HD95 in voxels, over cases where variant and segmentor alone have one. Intervals "
        "(paired bootstrap) and p (Wilcoxon signed-rank test) are over patients: they say nothing of how another "
        f"training would end, and p is not corrected for the {len(lines)} rows."
    )


def _cells(line: Line) -> tuple[str, ...]:
    marks = [_mark(value) if line.has_refiner else "" for value in _switches(line)]
    own = line.has_refiner
    alone = line.name != ALONE
    return (
        line.title,
        line.loss,
        *marks,
        line.sampling,
        f"{line.prior:.2f}",
        f"{line.dice:.2f}" if own else "",
        _difference(line.difference, line.interval) if alone else "",
        ("" if line.p_value is None else f"{line.p_value:.2g}") if alone else "",
        _difference(line.gain, line.gain_interval) if own else "",
        f"{line.hd95:.2f} ({100 * line.hd95_undefined:.1f} %)",
    )


def _switches(line: Line) -> tuple[bool, bool, bool]:
    return line.collaborates, line.has_xformer, line.is_binarized


def _mark(value: bool) -> str:
    return "yes" if value else "no"


def _difference(mean: float, interval: tuple[float, float] | None) -> str:
    return f"{mean:+.2f}" + ("" if interval is None else f" ({interval[0]:+.2f} to {interval[1]:+.2f})")


def _select(rows: Sequence[dict[str, Any]], method: str, name: str) -> list[dict[str, Any]]:
    return [{**row, "method": name} for row in rows if row["method"] == method]


def _average(scores: Sequence[ComparedScore]) -> list[ComparedScore]:
    """Those of the whole image, and where there are several structures of their average."""
    first = scores[0].region
    target = AVERAGE if any(score.target == AVERAGE for score in scores) else scores[0].target
    return [score for score in scores if score.region == first and score.target == target]
