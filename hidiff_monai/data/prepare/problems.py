"""What is wrong with a download, said once for all data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..validate import Problem


def require_none(problems: Sequence[Problem], output: Path) -> None:
    """Raises one ValueError with a line for every problem; silent if there is none."""
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ValueError(f"{output}: {len(problems)} problem(s), no datalist written; expected none:\n{lines}")


def require_own_folder(datalist: Path, name: str) -> None:
    """Raises a ValueError where the datalist to be written is there already, and is that of another data set."""
    if not datalist.is_file():
        return
    try:
        found = json.loads(datalist.read_text(encoding="utf-8"))["name"]
    except (ValueError, KeyError, TypeError):
        found = "something else"
    if found != name:
        raise ValueError(f"{datalist} is of {found}; expected {name} or no datalist: name another output")
