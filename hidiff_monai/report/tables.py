"""The two tables of the report: the summary of every region, and the sortable list of cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import numpy as np

from hidiff_monai.metrics import (
    HD95_UNITS,
    SCORE_NAMES,
    ComparedScore,
    compare_methods,
    p_text,
    summarise,
    without_agreeing,
)
from hidiff_monai.report.evaluation import Comparison
from hidiff_monai.report.page import data_uri

Row = Mapping[str, Any]
METHODS = ("prior", "refined")


def summary_table(rows: Sequence[Row]) -> str:
    """Prior, refined, their paired difference and its p value, a block of four lines a region and target.

    Each score is over the cases where both methods have it. Dice stands once where all conventions for absent
    structures agree, else under each.

    Args:
        rows: every row of the evaluation; methods other than prior and refined are left out.
    """
    scores = without_agreeing(compare_methods([rows], METHODS))
    units = {score.score: f"{SCORE_NAMES[score.score]} {score.unit}" for score in scores}
    names = [f"{name} ↓" if key in HD95_UNITS else name for key, name in units.items()]
    head = "".join(f"<th scope='col'>{name}</th>" for name in ["", *names, "Micro Dice %", "Images"])
    has_targets = len({score.target for score in scores}) > 1
    has_patients = any(row.get("patient", row["case"]) != row["case"] for row in rows)
    body = ""
    for (region, target), group in groupby(scores, lambda score: (score.region, score.target)):
        name = f"{region}, {target}" if has_targets else region
        body += f"<tr class='group'><th colspan='{len(units) + 3}' scope='rowgroup'>{escape(name)}</th></tr>"
        members = list(group)
        inside = [row for row in rows if (row["region"], row.get("target", "")) == (region, target)]
        body += "".join(_method_line(members, inside, number) for number in (0, 1))
        body += _difference_lines(members, "patient" if has_patients else "case")
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _method_line(scores: Sequence[ComparedScore], rows: Sequence[Row], number: int) -> str:
    most = max(score.cases for score in scores)
    cells = [_mean_sd(score, number, most) for score in scores]
    of_method = [row for row in rows if row["method"] == METHODS[number]]
    cells += [f"{100 * summarise(of_method)['micro']['dice']:.2f}" if of_method else "", str(most)]
    return _line(METHODS[number], cells)


def _mean_sd(score: ComparedScore, number: int, most: int) -> str:
    if not score.cases:
        return "undefined"
    spread = score.sds[number]
    sd = "" if math.isnan(spread) else f" <span class='spread'>± {spread:.2f}</span>"
    missing = "" if score.cases == most else f"<br><span class='spread'>{score.cases} defined</span>"
    return f"{score.means[number]:.2f}{sd}{missing}"


def _difference_lines(scores: Sequence[ComparedScore], unit: str) -> str:
    differences, p_values = [_difference_cell(score) for score in scores], [p_text(score.p_value) for score in scores]
    number = max(score.patients for score in scores)
    who = f"<span class='spread'>{number} {unit}{'s' if number > 1 else ''}</span>"
    return _line("refined − prior", [*differences, "", who], "difference") + _line(
        "p, Wilcoxon", [*p_values, "", ""], "difference"
    )


def _difference_cell(score: ComparedScore) -> str:
    if not score.cases:
        return "undefined"
    if score.interval is None:
        return signed(score.difference)
    low, high = score.interval
    is_worse = low > 0 if score.score in HD95_UNITS else high < 0
    tone = "" if low <= 0 <= high else "lower" if is_worse else "better"
    interval = f"<br><span class='spread'>[{signed(low)}, {signed(high)}]</span>"
    return f"<span class='{tone}'>{signed(score.difference)}</span>{interval}"


def _line(name: str, cells: Sequence[str], kind: str = "") -> str:
    opening = f"<tr class='{kind}'>" if kind else "<tr>"
    return f"{opening}<th scope='row'>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def case_table(
    comparison: Comparison,
    rows: Sequence[Row],
    uncertainty: Sequence[float],
    thumbnails: Sequence[bytes],
    errors: str = "Errors",
) -> str:
    """Every case with its error map; a click on a column's name sorts by it.

    Args:
        comparison: the Dice of each case.
        rows: of the refined masks of structures in the comparison's region, for recall and HD95, in mm where known.
        uncertainty: mean entropy in nats, one a case; NaN where no mask has a pixel.
        thumbnails: error maps as PNG, one a case.
        errors: the head of their column.
    """
    distance_key = "hd95_mm" if any(math.isfinite(row.get("hd95_mm", math.nan)) for row in rows) else "hd95"
    heads = ["Case", "Dice prior %", "Dice refined %", "Gain", "Recall %"]
    heads += [f"HD95 {HD95_UNITS[distance_key]}", "Entropy a mask pixel"]
    head = f"<th scope='col'><span class='spread'>{escape(errors)}</span></th>" + "".join(map(sort_head, heads))
    of_case: dict[str, list[Row]] = {}
    for row in rows:
        of_case.setdefault(str(row["case"]), []).append(row)
    body = []
    for i, case in enumerate(comparison.cases):
        recall, distance = (_mean_of_defined(of_case[case], key) for key in ("recall", distance_key))
        scores = (100 * comparison.prior[i], 100 * comparison.refined[i])
        image = f"<td><img alt='error map of case {escape(case)}' src='{data_uri(thumbnails[i])}'></td>"
        name = f"<td class='text' data-value='{escape(case)}'>{escape(case)}</td>"
        numbers = [number_cell(value) for value in scores] + [number_cell(scores[1] - scores[0], is_signed=True)]
        numbers += [number_cell(100 * recall), number_cell(distance), number_cell(uncertainty[i], digits=3)]
        body.append(f"<tr>{image}{name}{''.join(numbers)}</tr>")
    return (
        f"<div class='cases' tabindex='0'><table class='sortable'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _mean_of_defined(rows: Sequence[Row], key: str) -> float:
    """Over the structures of a case that have the score; NaN where none has."""
    values = [float(row[key]) for row in rows if math.isfinite(row[key])]
    return float(np.mean(values)) if values else math.nan


def sort_head(name: str, sorted_by: str = "") -> str:
    """A column's head as a button; `sorted_by` is "ascending" or "descending" where the rows already stand so."""
    kind = "text" if name == "Case" else "number"
    order = f" aria-sort='{sorted_by}'" if sorted_by else ""
    return f"<th scope='col' class='{kind}' data-kind='{kind}'{order}><button type='button'>{name}</button></th>"


def number_cell(value: float, digits: int = 2, is_signed: bool = False) -> str:
    """A cell that sorts by its number; a dash for NaN, which stands last in either order."""
    shown = "–" if math.isnan(value) else signed(value) if is_signed else f"{value:.{digits}f}"
    tone = "" if not is_signed or abs(value) < 0.005 else " class='better'" if value > 0 else " class='lower'"
    return f"<td data-value='{value:.8g}'{tone}>{shown}</td>"


def signed(value: float) -> str:
    """Two decimals with a sign, a true minus, and no sign on zero."""
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text
