"""Refuses a split in which two sections share a case, a patient or the very same image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

SECTIONS = ("training", "validation", "test")


def check_leakage(datalist: dict[str, Any], dataset_dir: str | Path | None = None) -> None:
    """Makes sure that no two sections of a datalist share anything.

    Args:
        datalist: the parsed datalist; a case without "patient" counts as its own patient.
        dataset_dir: when given, the image files are compared by content (SHA-256) too, so that a renamed copy
            is found. Files that are absent are skipped here: `check_dataset` reports them.

    Raises:
        ValueError: naming what is shared, and by which sections.
    """
    kinds = ["id", "patient"] + ([] if dataset_dir is None else ["image content"])
    for kind in kinds:
        seen = {name: dict(_keys(datalist[name], kind, dataset_dir)) for name in SECTIONS if name in datalist}
        for first, second in combinations(seen, 2):
            shared = sorted(seen[first].keys() & seen[second].keys())
            if shared:
                pairs = [f"{seen[first][key]} = {seen[second][key]}" for key in shared]
                raise ValueError(
                    f"sections '{first}' and '{second}' share {len(shared)} {kind}(s) (cases {_first_few(pairs)}); "
                    f"expected none: keep each case and patient in one section of the datalist only"
                )


def _keys(cases: list[dict[str, Any]], kind: str, dataset_dir: str | Path | None) -> Iterator[tuple[str, str]]:
    """Yields (what must be unique to a section, id of the case)."""
    for case in cases:
        if kind != "image content":
            yield str(case.get(kind, case["id"])), str(case["id"])
            continue
        file = Path(dataset_dir or "") / case["image"]
        if file.is_file():
            yield hashlib.sha256(file.read_bytes()).hexdigest(), str(case["id"])


def _first_few(names: list[str], limit: int = 5) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
