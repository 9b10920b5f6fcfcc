"""Scores on disk and on screen, each figure with its convention and its n."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hidiff_monai.io import write_atomically

from .cases import ALL_METRICS, HD95_UNITS, present_metrics, summarise

Row = Mapping[str, Any]

GROUP_KEYS = ("region", "method", "target")
COLUMNS = {"dice": "Dice %", "iou": "IoU %", "recall": "recall %", "accuracy": "accuracy %"}
COLUMNS |= {name: f"HD95 {unit}" for name, unit in HD95_UNITS.items()}
CONVENTIONS = (
    "mean ± sd: over cases, each case scored by itself; sd with n - 1. micro: one score of all cases' pixels pooled.",
    "Both masks empty: Dice = IoU = recall = 1. One empty: Dice = IoU = 0. Only the label empty: recall is undefined.",
    "HD95: the larger of the two directed 95th percentiles of the distances between surfaces.",
    "Undefined cases (HD95: either mask empty) are counted, not scored: NaN ratio = undefined / n.",
)


def write_cases(rows: Sequence[Row], folder: str | os.PathLike[str], name: str = "cases") -> None:
    """Write one line a case to `<name>.csv` and `<name>.json`; NaN becomes an empty cell and null.

    Args:
        rows: dicts with "case", "method", "region", optionally "target", and the result of `score_case`.
        folder: made if missing; files of an earlier run are replaced once both new ones are complete.
        name: of the files.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no rows to write; expected one a case: check that the evaluation found any case")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    records = [_without_nan(row) for row in rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    _write_files(Path(folder), {f"{name}.csv": text.getvalue(), f"{name}.json": _json_text(records)})


def read_cases(folder: str | os.PathLike[str], name: str = "cases") -> list[dict[str, Any]]:
    """The rows `write_cases` wrote to `<name>.json`, an undefined score as NaN again."""
    rows = json.loads((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))
    return [{key: _score_or_nan(key, value) for key, value in row.items()} for row in rows]


def array_name(case: str, target: str, targets: Sequence[str]) -> str:
    """What an evaluation calls a file of maps: after case and target, or the case alone where there is one target."""
    return case if len(targets) == 1 else f"{case}_{target}"


def write_summary(rows: Sequence[Row], folder: str | os.PathLike[str]) -> None:
    """Write `summary.json` (one `summarise` result a group, and the conventions) and `table.txt` (`format_table`).

    Args:
        rows: as for `write_cases`.
        folder: made if missing; files of an earlier run are replaced once both new ones are complete.
    """
    groups = [_without_nan(_identity(members) | summarise(members)) for members in _grouped(rows)]
    summary = {"groups": groups, "conventions": list(CONVENTIONS)}
    _write_files(Path(folder), {"summary.json": _json_text(summary), "table.txt": format_table(rows) + "\n"})


def format_table(rows: Sequence[Row]) -> str:
    """The summary as aligned text: a block a region, two lines (per case, micro) a method and target, and a footer.

    Args:
        rows: as for `write_cases`; groups appear in the order of their first row.

    Raises:
        ValueError: no rows, or HD95 in mm in some only.
    """
    metrics = present_metrics(rows)
    header = ["", "", *(name for key, name in COLUMNS.items() if key in metrics), "HD95 NaN ratio", "n"]
    blocks: dict[str, list[list[str]]] = {}
    for members in _grouped(rows):
        blocks.setdefault(str(members[0]["region"]), []).extend(_group_lines(members))
    lines = [header, *(line for block in blocks.values() for line in block)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [part for region, block in blocks.items() for part in (region, *_aligned([header, *block], widths), "")]
    return "\n".join([*text, *CONVENTIONS, *_undefined_recalls(rows)])


def _grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one region, method and target together."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in GROUP_KEYS), []).append(row)
    return list(groups.values())


def _identity(members: Sequence[Row]) -> dict[str, Any]:
    return {key: members[0][key] for key in GROUP_KEYS if key in members[0]}


def _name(members: Sequence[Row]) -> str:
    return ", ".join(str(members[0][key]) for key in ("method", "target") if members[0].get(key))


def _group_lines(members: Sequence[Row]) -> list[list[str]]:
    summary = summarise(members)
    shown = [name for name in COLUMNS if name in summary]
    means = [_mean_sd(summary[name], 1 if name in HD95_UNITS else 100) for name in shown]
    micro = [f"{100 * summary['micro'][name]:6.2f}" if name in summary["micro"] else "" for name in shown]
    ratio = f"{100 * summary['hd95']['nan_ratio']:.2f} %"
    return [[_name(members), "mean ± sd", *means, ratio, str(summary["cases"])], ["", "micro", *micro, "", ""]]


def _mean_sd(spread: Mapping[str, float], factor: float) -> str:
    if not spread["n"]:
        return "undefined"
    # one value has no spread, but keeps its column: digits line up with the other lines
    sd = "-" if math.isnan(spread["sd"]) else f"{factor * spread['sd']:.2f}"
    return f"{factor * spread['mean']:6.2f} ± {sd:>5}"


def _aligned(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Every cell from the left of its column, so that a micro score stands under its mean."""
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return ["  " + "  ".join(line).rstrip() for line in padded]


def _undefined_recalls(rows: Sequence[Row]) -> list[str]:
    """A footer line for each group in which recall leaves cases out; HD95 has its own column."""
    lines = []
    for members in _grouped(rows):
        defined = summarise(members)["recall"]["n"]
        if defined < len(members):
            group = f"{members[0]['region']}, {_name(members)}"
            lines.append(f"Recall ({group}): mean over the {defined} of {len(members)} cases where it is defined.")
    return lines


def _score_or_nan(key: str, value: Any) -> Any:
    return math.nan if key in ALL_METRICS and value is None else value


def _without_nan(value: Any) -> Any:
    """NaN to None, through dicts: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _json_text(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _write_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes every file beside its final name, then renames all: a failed run loses nothing and leaves nothing."""
    with ExitStack() as stack:
        for name, text in texts.items():
            temporary = stack.enter_context(write_atomically(folder / name))
            temporary.write_text(text, encoding="utf-8", newline="\n")
