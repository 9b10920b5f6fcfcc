"""What a run of `hidiff predict` came to, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hidiff_monai.prediction.processes import list_names
from hidiff_monai.report import case_dice

MAX_LISTED = 10


def format_summary(manifest: Mapping[str, Any], output: Path) -> str:
    """What a run came to, in lines: its numbers, the cases to look at first, and every case that failed."""
    done = [case for case in manifest["cases"] if case["status"] == "done"]
    failed = [case for case in manifest["cases"] if case["status"] == "failed"]
    hard = sorted((case for case in done if case["verdict"]["looks_hard"]), key=_by_uncertainty, reverse=True)
    before = f" ({manifest['done_before']} of them before)" if manifest["done_before"] else ""
    lines = [f"{len(done)} of {manifest['planned']} case(s) predicted in {output}{before}, {len(hard)} look hard"]
    lines += _dice_line(done) + _budget_lines(manifest, done) + _likeness_lines(manifest)
    lines += [f"  {case['id']}: {'; '.join(case['verdict']['reasons'])}" for case in hard[:MAX_LISTED]]
    lines += [f"  ... and {len(hard) - MAX_LISTED} more"] if len(hard) > MAX_LISTED else []
    edited = [case["id"] for case in done if case["edited"]]
    lines += (
        [f"changed since, while figures are of what was written: {list_names(edited, MAX_LISTED)}"] if edited else []
    )
    lines += [f"{len(failed)} failed:"] if failed else []
    lines += [f"  {case['id']}: {case['error']}" for case in failed]
    page = output / "index.html"
    return "\n".join([*lines, f"report: {page}"] if page.is_file() else lines)


def _dice_line(done: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean over the cases with a label of the mean over their classes."""
    means = [score for score in map(case_dice, done) if not math.isnan(score)]
    return [f"Dice against the labels: {100 * np.mean(means):.2f} % ({len(means)} case(s))"] if means else []


def _budget_lines(manifest: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the budget chose, what was expected of it and what came."""
    budget = manifest.get("budget")
    if budget is None:
        return []
    line = f"budget {budget['budget_ms']:g} ms a case: {budget['described']}, estimated {budget['estimated_ms']:.0f} ms"
    times = [case["inference_ms"] for case in done]
    over = sum(time > budget["budget_ms"] for time in times)
    other = sum(case["setting"] != budget["setting"] for case in done)
    line += f", measured {np.median(times):.0f} ms (median)" if times else ""
    line += f"; {over} case(s) took longer than the budget" if over else ""
    return [line, *([f"  {other} case(s) were too large for it and took a cheaper setting"] if other else [])]


def _likeness_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Beside which reference the cases were seen, and whether as a whole they are unlike it."""
    reference, likeness = manifest["reference"], manifest["likeness"]
    if not reference["cases"]:
        return [f"no reference says what is usual: {reference['source']}"]
    line = f"reference: {reference['source']}, {reference['cases']} cases; "
    if likeness is None:
        return [line + "too few cases here to be compared with it as a whole"]
    if likeness["warning"]:
        return [line.rstrip("; "), f"WARNING: {likeness['warning']}"]
    return [f"{line}as a whole these are not more uncertain ({100 * likeness['share']:.0f} of 100 pairs)"]


def _by_uncertainty(case: Mapping[str, Any]) -> float:
    """An empty mask, which has none, comes first."""
    return float("inf") if case["uncertainty"] is None else float(case["uncertainty"])
