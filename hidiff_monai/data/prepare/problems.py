"""What is wrong with a download, said once for all data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..validate import Problem


def require_none(problems: Sequence[Problem], output: Path) -> None:
    """Raises one ValueError with a line for every problem; silent if there is none."""
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ValueError(f"{output}: {len(problems)} problem(s), no datalist written; expected none:\n{lines}")
