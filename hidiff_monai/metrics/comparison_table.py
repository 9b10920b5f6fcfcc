"""A comparison as text, CSV, JSON and rows for LaTeX, each figure with its convention and its n."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .cases import HD95_UNITS
from .comparison import AVERAGE, ComparedScore
from .conventions import DICE_CONVENTIONS

SCORE_NAMES = {
    "dice": "Dice",
    "dice_undefined": "Dice, absent undefined",
    "dice_transunet": "Dice, TransUNet's",
    "iou": "IoU",
    "hd95": "HD95",
    "hd95_mm": "HD95",
    "recall": "recall",
    "accuracy": "accuracy",
}
LATEX_NAMES = {name: rf"HD95 {unit}$\downarrow$ (NaN ratio)" for name, unit in HD95_UNITS.items()}
FOOTER = (
    "difference: second minus first, over the n cases where both are defined. NaN: share of undefined ones.",
    "Interval: 95 % percentile, paired bootstrap. p: Wilcoxon signed-rank test, two-sided. Both over patients (video",
    "sequences), whose cases are drawn together and count once in the test; an unknown patient has one case.",
)
DICE_FOOTER = (
    "Dice: both masks empty = 1. Absent undefined: both empty = left out.\n"
    "TransUNet's: both empty = 0, a false alarm on an absent structure = 1."
)
AGREE_FOOTER = "No structure is absent in any case: all conventions of Dice for absent structures agree."


def format_comparison(scores: Sequence[ComparedScore]) -> str:
    """Aligned text: a block a region and target, a line a score, and what the figures mean below."""
    first, second = scores[0].methods
    header = ["", first, second, "difference", "95 % interval", "p", f"NaN {first}", f"NaN {second}", "n", "patients"]
    shown = without_agreeing(scores)
    blocks = {key: [_text_line(score) for score in members] for key, members in groupby(shown, _block_of)}
    lines = [header, *(line for block in blocks.values() for line in block)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = []
    for key, block in blocks.items():
        text += [", ".join(filter(None, key)), *(_aligned(line, widths) for line in [header, *block]), ""]
    seeds = scores[0].seeds
    spread = f"over {seeds} evaluations (seeds)" if seeds > 1 else "over cases"
    dice = AGREE_FOOTER if _do_conventions_agree(scores) else DICE_FOOTER
    return "\n".join([*text, f"mean ± sd: {spread}, sd with n - 1.", *FOOTER, dice])


def comparison_csv(scores: Sequence[ComparedScore]) -> str:
    """One line a region, target and score; what does not exist is an empty cell."""
    text = io.StringIO(newline="")
    records = [_record(score) for score in scores]
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def comparison_json(scores: Sequence[ComparedScore]) -> str:
    """A list of objects, keys as in the CSV; what does not exist is null."""
    return json.dumps([_record(score) for score in scores], indent=2, ensure_ascii=False, allow_nan=False)


def latex_rows(scores: Sequence[ComparedScore]) -> str:
    """Two rows a block, `name & mean $\\pm$ sd & ... \\\\`, the better mean in bold; comments name the columns.

    One block a region, a column a score. Where there are several targets, the columns are average Dice and HD95 and the
    Dice of every target, as in tables on Synapse.
    """
    lines = []
    for region, group in groupby(without_agreeing(scores), lambda score: score.region):
        members = list(group)
        targets = list(dict.fromkeys(score.target for score in members))
        if len(targets) > 1:
            members = [score for score in members if _is_in_wide_table(score)]
        names = [_latex_head(score, len(targets) > 1) for score in members]
        lines += [f"% {region}: mean $\\pm$ sd, n = {members[0].cases}", f"% Method & {' & '.join(names)} \\\\"]
        for method in (0, 1):
            cells = [_latex_cell(score, method) for score in members]
            lines.append(f"{_escape(members[0].methods[method])} & {' & '.join(cells)} \\\\")
        p_values = [f"${p_text(score.p_value)}$" for score in members]
        lines.append(f"% p (Wilcoxon) & {' & '.join(p_values)} \\\\")
    return "\n".join(lines)


def _block_of(score: ComparedScore) -> tuple[str, str]:
    return score.region, score.target


def _do_conventions_agree(scores: Sequence[ComparedScore]) -> bool:
    by_score = [
        [(score.region, score.target, score.means, score.undefined) for score in scores if score.score == name]
        for name in DICE_CONVENTIONS
    ]
    return all(other == by_score[0] for other in by_score[1:])


def without_agreeing(scores: Sequence[ComparedScore]) -> list[ComparedScore]:
    """All scores, block by block; Dice once where its conventions agree."""
    hidden = [name for name in DICE_CONVENTIONS if name != "dice"] if _do_conventions_agree(scores) else []
    order = {key: number for number, key in enumerate(dict.fromkeys(map(_block_of, scores)))}
    return sorted((score for score in scores if score.score not in hidden), key=lambda score: order[_block_of(score)])


def _text_line(score: ComparedScore) -> list[str]:
    interval = "" if score.interval is None else f"[{score.interval[0]:+.2f}, {score.interval[1]:+.2f}]"
    ratios = [f"{100 * share:.2f} %" for share in score.undefined]
    means = [_mean_sd(*pair, "±") for pair in zip(score.means, score.sds, strict=True)]
    difference = "" if math.isnan(score.difference) else f"{score.difference:+.2f}"
    name = f"{SCORE_NAMES[score.score]} {score.unit}"
    return [name, *means, difference, interval, p_text(score.p_value), *ratios, str(score.cases), str(score.patients)]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _mean_sd(mean: float, sd: float, sign: str) -> str:
    if math.isnan(mean):
        return "undefined"
    return f"{mean:.2f}" if math.isnan(sd) else f"{mean:.2f} {sign} {sd:.2f}"


def p_text(p_value: float | None) -> str:
    """Four decimals, "< 0.0001", or nothing."""
    return "" if p_value is None else "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _is_in_wide_table(score: ComparedScore) -> bool:
    is_dice = score.score in DICE_CONVENTIONS
    return score.score == "dice" or (score.target == AVERAGE and (is_dice or score.score in HD95_UNITS))


def _latex_head(score: ComparedScore, has_targets: bool) -> str:
    name = LATEX_NAMES.get(score.score, f"{SCORE_NAMES[score.score]}$\\uparrow$")
    return f"{_escape(score.target)} {name}" if has_targets else name


def _latex_cell(score: ComparedScore, method: int) -> str:
    mean, sd = score.means[method], score.sds[method]
    other = score.means[1 - method]
    text = _mean_sd(mean, sd, r"$\pm$")
    is_better = mean < other if score.score in HD95_UNITS else mean > other
    text = rf"\textbf{{{text}}}" if is_better else text
    return rf"{text} ({100 * score.undefined[method]:.2f}\%)" if score.score in HD95_UNITS else text


def _escape(name: str) -> str:
    return name.replace("_", r"\_").replace("&", r"\&").replace("%", r"\%")


def _record(score: ComparedScore) -> dict[str, Any]:
    """Flat, with None for NaN."""
    fields = dataclasses.asdict(score)
    low, high = score.interval or (None, None)
    names = {"mean": "means", "sd": "sds", "undefined": "undefined"}
    pairs = {
        f"{name}_{method}": fields[field][i] for name, field in names.items() for i, method in enumerate(score.methods)
    }
    record = {
        **{name: fields[name] for name in ("region", "target", "score", "unit", "cases", "patients", "seeds")},
        **pairs,
        "difference": score.difference,
        "interval_low": low,
        "interval_high": high,
        "p_value": score.p_value,
    }
    return {key: None if isinstance(item, float) and math.isnan(item) else item for key, item in record.items()}
