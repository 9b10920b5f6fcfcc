"""Prior against refined at the same number of pixels, where a shift of the threshold earns nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hidiff_monai.metrics import array_name, score_case
from hidiff_monai.report.evaluation import CASE_KEYS, FIELD_OF_VIEW, read_arrays, read_rows
from hidiff_monai.report.figures import masks

SAME_AREA = "refined, same area"


def rows_at_same_area(evaluation_dir: Path) -> list[dict[str, Any]]:
    """The rows of the prior, and of masks as large as its, made of the pixels that are likeliest after refinement.

    A refined mask that is larger or smaller than the prior's may score better for that alone, as the prior would at
    another threshold. What is left of the difference here is what the refiner knows of where the structure is.

    Args:
        evaluation_dir: what the evaluate workflow wrote of photographs.

    Returns:
        As `read_rows`, the method "refined" replaced by `SAME_AREA`.

    Raises:
        ValueError: of volumes, whose evaluation keeps no probabilities; or as `read_rows` and `read_arrays`.
    """
    rows = read_rows(evaluation_dir)
    if (evaluation_dir / "slices.json").is_file():
        raise ValueError(f"{evaluation_dir} is of volumes, which keep classes only; expected one of photographs")
    targets = list(dict.fromkeys(str(row.get("target", "")) for row in rows))
    chosen: list[dict[str, Any]] = []
    for row in rows:
        if row["method"] == "prior":
            name = array_name(str(row["case"]), str(row.get("target", "")), targets)
            arrays = read_arrays(evaluation_dir / "arrays" / f"{name}.npz", CASE_KEYS)
            region = arrays["region"] > 0 if row["region"] == FIELD_OF_VIEW else None
            inside = True if region is None else region
            number = int((masks(arrays)[0] & inside).sum())
            mask = likeliest(np.where(inside, arrays["refined"], -1), number)
            chosen += [row, {**row, "method": SAME_AREA, **score_case(mask, arrays["label"] > 0, region=region)}]
    return chosen


def likeliest(probability: np.ndarray, number: int) -> np.ndarray:
    """A mask, bool, of so many pixels of the highest probability; of equal ones those that come first."""
    mask = np.zeros(probability.size, bool)
    mask[np.argsort(-probability, axis=None, kind="stable")[:number]] = True
    return mask.reshape(probability.shape)
