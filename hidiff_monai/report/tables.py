"""The two tables of the report: the summary of every region, and the sortable list of cases."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from hidiff_monai.metrics import paired_bootstrap, summarise
from hidiff_monai.report.evaluation import Comparison

Row = Mapping[str, Any]
COLUMNS = {"dice": "Dice %", "iou": "IoU %", "recall": "Recall %", "accuracy": "Accuracy %", "hd95": "HD95"}
METHODS = ("prior", "refined")


def summary_table(rows: Sequence[Row]) -> str:
    """Prior, refined and their paired difference, a block of three lines a region and target.

    Args:
        rows: every row of the evaluation; methods other than prior and refined are left out.
    """
    unit = summarise(rows)["hd95"]["unit"]
    names = [f"HD95 {unit} ↓" if key == "hd95" else name for key, name in COLUMNS.items()]
    head = "".join(f"<th scope='col'>{name}</th>" for name in ["", *names, "Micro Dice %", "Images"])
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((str(row["region"]), str(row.get("target", ""))), []).append(row)
    has_targets = len({target for _, target in groups}) > 1
    names_of = {key: ", ".join(key) if has_targets else key[0] for key in groups}
    body = "".join(_block(names_of[key], members) for key, members in groups.items())
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _block(name: str, rows: Sequence[Row]) -> str:
    methods = {method: [row for row in rows if row["method"] == method] for method in METHODS}
    lines = [f"<tr class='group'><th colspan='8' scope='rowgroup'>{escape(name)}</th></tr>"]
    for method, members in methods.items():
        if members:
            lines.append(_method_line(method, summarise(members)))
    if all(methods.values()):
        lines.append(_difference_line(*methods.values()))
    return "".join(lines)


def _method_line(method: str, summary: Mapping[str, Any]) -> str:
    cells = [_mean_sd(summary[key], 1 if key == "hd95" else 100) for key in COLUMNS]
    cells += [f"{100 * summary['micro']['dice']:.2f}", str(summary["cases"])]
    return f"<tr><th scope='row'>{method}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _mean_sd(spread: Mapping[str, float], factor: float) -> str:
    if not spread["n"]:
        return "undefined"
    sd = "" if math.isnan(spread["sd"]) else f" <span class='spread'>± {factor * spread['sd']:.2f}</span>"
    missing = "" if not spread["nan_ratio"] else f"<br><span class='spread'>{spread['n']} defined</span>"
    return f"{factor * spread['mean']:.2f}{sd}{missing}"


def _difference_line(prior: Sequence[Row], refined: Sequence[Row]) -> str:
    """Mean paired difference of each score with its interval, over the cases where both are defined."""
    after = {str(row["case"]): row for row in refined}
    pairs = [(row, after[str(row["case"])]) for row in prior if str(row["case"]) in after]
    cells = []
    for key in COLUMNS:
        differences = np.array([b[key] - a[key] for a, b in pairs], float) * (1 if key == "hd95" else 100)
        cells.append(_difference_cell(differences[np.isfinite(differences)], is_lower_better=key == "hd95"))
    cells += ["<td></td>", f"<td>{len(pairs)}</td>"]
    return f"<tr class='difference'><th scope='row'>refined − prior</th>{''.join(cells)}</tr>"


def _difference_cell(differences: np.ndarray, is_lower_better: bool) -> str:
    if not len(differences):
        return "<td>undefined</td>"
    if len(differences) == 1:
        return f"<td>{signed(differences[0])}</td>"
    low, high = paired_bootstrap(differences)
    is_worse = low > 0 if is_lower_better else high < 0
    tone = "" if low <= 0 <= high else "lower" if is_worse else "better"
    interval = f"<br><span class='spread'>[{signed(low)}, {signed(high)}]</span>"
    return f"<td><span class='{tone}'>{signed(differences.mean())}</span>{interval}</td>"


def case_table(
    comparison: Comparison, rows: Sequence[Row], uncertainty: Sequence[float], thumbnails: Sequence[bytes]
) -> str:
    """Every case with its error map; a click on a column's name sorts by it.

    Args:
        comparison: the Dice of each case.
        rows: of the refined mask in the comparison's region, for HD95 and recall.
        uncertainty: mean entropy in nats, one a case.
        thumbnails: error maps as PNG, one a case.
    """
    heads = ["Case", "Dice prior %", "Dice refined %", "Gain", "Recall %", "HD95", "Uncertainty"]
    head = "<th scope='col'><span class='spread'>Errors</span></th>" + "".join(_sort_head(name) for name in heads)
    of_case: dict[str, list[Row]] = {}
    for row in rows:
        of_case.setdefault(str(row["case"]), []).append(row)
    body = []
    for i, case in enumerate(comparison.cases):
        recall, distance = (float(np.mean([row[key] for row in of_case[case]])) for key in ("recall", "hd95"))
        scores = (100 * comparison.prior[i], 100 * comparison.refined[i])
        image = f"<td><img alt='error map of case {escape(case)}' src='{data_uri(thumbnails[i])}'></td>"
        name = f"<td class='text' data-value='{escape(case)}'>{escape(case)}</td>"
        numbers = [_number(value) for value in scores] + [_number(scores[1] - scores[0], is_signed=True)]
        numbers += [_number(100 * recall), _number(distance), _number(uncertainty[i], digits=3)]
        body.append(f"<tr>{image}{name}{''.join(numbers)}</tr>")
    return (
        f"<div class='cases' tabindex='0'><table class='sortable'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _sort_head(name: str) -> str:
    kind = "text" if name == "Case" else "number"
    return f"<th scope='col' class='{kind}' data-kind='{kind}'><button type='button'>{name}</button></th>"


def _number(value: float, digits: int = 2, is_signed: bool = False) -> str:
    shown = "–" if math.isnan(value) else signed(value) if is_signed else f"{value:.{digits}f}"
    tone = "" if not is_signed or abs(value) < 0.005 else " class='better'" if value > 0 else " class='lower'"
    return f"<td data-value='{value:.8g}'{tone}>{shown}</td>"


def signed(value: float) -> str:
    """Two decimals with a sign, a true minus, and no sign on zero."""
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def data_uri(png: bytes) -> str:
    """The picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
