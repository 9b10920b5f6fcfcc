"""The verb ``hidiff compare``; it imports what it needs when it is called."""

from __future__ import annotations

from pathlib import Path


def compare(
    *evaluation_dirs: str,
    slices: bool = False,
    smaller_than: int | None = None,
    same_area: bool = False,
    methods: tuple[str, str] = ("prior", "refined"),
    format: str = "text",
) -> None:
    """Prints refined against prior: mean ± sd, difference with its interval, p value, three conventions of Dice.

    Args:
        evaluation_dirs: what the evaluate workflow wrote; several are taken as seeds of the same evaluation.
        slices: takes volumes slice by slice: every slice, and those with a label.
        smaller_than: takes only what has fewer pixels in the label than this, and at least one: images, or the slices
            of volumes; the paper has 500 for organs, 100 for tumours.
        same_area: takes as many pixels of the refined probability as the prior's mask has, the likeliest: what is left
            of the difference is no shift of the threshold. For photographs.
        methods: what is compared: before, after.
        format: text, csv, json or latex.
    """
    from hidiff_monai import metrics
    from hidiff_monai.io.command_line import require_count
    from hidiff_monai.report import SAME_AREA, read_rows, rows_at_same_area

    writers = {
        "text": metrics.format_comparison,
        "csv": metrics.comparison_csv,
        "json": metrics.comparison_json,
        "latex": metrics.latex_rows,
    }
    if not evaluation_dirs or format not in writers:
        raise ValueError(
            f"{len(evaluation_dirs)} folders, format {format!r}; expected a folder and one of {[*writers]}"
        )
    folders = [Path(folder).expanduser().resolve() for folder in evaluation_dirs]
    if len(set(folders)) < len(folders):
        raise ValueError(f"{[str(folder) for folder in folders]}: a folder is given twice; expected each seed once")
    if isinstance(methods, str) or len(methods) != 2 or len(set(methods)) != 2:
        raise ValueError(f"methods {methods!r}; expected two with a comma between them: --methods prior,refined")
    if smaller_than is not None:
        require_count("smaller_than", smaller_than)
    is_volume = smaller_than is not None and all((folder / "slices.json").is_file() for folder in folders)
    if same_area and (slices or tuple(methods) != ("prior", "refined")):
        raise ValueError("--same_area with --slices or --methods; expected it alone: it compares prior and refined")
    if same_area:
        methods, evaluations = ("prior", SAME_AREA), [rows_at_same_area(folder) for folder in folders]
    else:
        evaluations = [read_rows(folder, "slices" if slices or is_volume else "cases") for folder in folders]
    if smaller_than is not None:
        evaluations = [metrics.select_small(rows, smaller_than) for rows in evaluations]
    elif slices:
        evaluations = [metrics.regions_of_slices(rows) for rows in evaluations]
    print(writers[format](metrics.compare_methods(evaluations, tuple(methods))))  # type: ignore[arg-type]
