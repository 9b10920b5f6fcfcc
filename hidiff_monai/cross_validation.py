"""Cross-validation of a bundle: a training and an evaluation a fold, then all cases together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from hidiff_monai.bundle_runs import (
    FITTED,
    find_config,
    find_datalist,
    is_evaluated,
    require_same_run,
    train_and_evaluate,
)
from hidiff_monai.data import read_datalist, use_fold
from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.metrics import compare_methods, format_comparison, write_cases, write_summary
from hidiff_monai.report import read_rows, write_report


def run_cross_validation(
    bundle: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    datalist_file: str | Path | None = None,
    folds: Sequence[str | int] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Path | None:
    """Trains and evaluates a bundle on each fold of its datalist, and writes a report of all cases.

    Each case is tested once, by a model that was neither trained nor chosen on it (`use_fold`); and with the neutral
    threshold and temperature unless others are given, as the bundle's were fitted to its own weights. Run again, a
    training that was interrupted goes on, a fold that was evaluated is kept, and what is missing is done.

    Args:
        bundle: the bundle's folder.
        dataset_dir: the folder that the datalist's paths are relative to.
        output_dir: receives fold_<name>/ with training and evaluation of each fold; and cases.csv, cases.json,
            summary.json, table.txt, comparison.txt and index.html of all of them.
        datalist_file: a datalist with "folds"; None: the bundle's own.
        folds: names of those to run, as when several machines share the work; None: all.
        overrides: further keys of the bundle's configuration and their values, for every fold.

    Returns:
        The report, or None as long as other folds are missing.

    Raises:
        ValueError: if there are no folds, ``output_dir`` holds those of another datalist, or a training or an
            evaluation fails.
    """
    bundle, output_dir = Path(bundle).resolve(), require_writable(output_dir).resolve()
    overrides = {
        **_neutral(bundle, overrides or {}),
        "bundle_root": bundle,
        "dataset_dir": Path(dataset_dir).expanduser().resolve(),
        **(overrides or {}),
    }
    file = Path(datalist_file).expanduser() if datalist_file else find_datalist(bundle, overrides)
    datalist = read_datalist(file)
    names = list(datalist.get("folds", {}))
    chosen = names if folds is None else [str(fold) for fold in folds]
    unknown = [name for name in chosen if name not in names]
    if not chosen or unknown:
        raise ValueError(f"{file}: has folds {names}, asked for {unknown or 'all'}; expected some of them: name these")
    divisions = {name: use_fold(datalist, name) for name in names}
    _require_same(bundle, output_dir, divisions, overrides)
    for name in chosen:
        print(f"fold {name} ({names.index(name) + 1} of {len(names)})", flush=True)
        _run_fold(bundle, output_dir / f"fold_{name}", divisions[name], overrides)
    evaluations = {name: output_dir / f"fold_{name}" / "evaluation_test" for name in names}
    missing = [name for name, folder in evaluations.items() if not is_evaluated(folder)]
    if missing:
        print(f"folds {', '.join(missing)} are not evaluated yet: all folds are put together once they are")
        return None
    _require_same(bundle, output_dir, divisions, overrides)  # also those that another machine has begun in the meantime
    return _put_together(evaluations, output_dir, f"{datalist.get('name', bundle.name)}, {len(names)} folds")


def _neutral(bundle: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """In place of what was fitted on the bundle's validation cases, some of which every fold tests."""
    own = ConfigParser.load_config_file(find_config(bundle, "evaluate"))
    neutral = {key: value for key, value in FITTED.items() if key not in overrides and own.get(key, value) != value}
    for key, value in neutral.items():
        print(
            f"{key} {value} in place of the bundle's {own[key]}, which was fitted to its weights; --{key} sets another"
        )
    return neutral


def _as_text(datalist: dict[str, Any]) -> str:
    return json.dumps(datalist, indent=1) + "\n"


def _require_same(
    bundle: Path, output_dir: Path, divisions: dict[str, dict[str, Any]], overrides: dict[str, Any]
) -> None:
    """Folds that are there, whoever ran them, will be put together with those to come."""
    for name, datalist in divisions.items():
        folder = output_dir / f"fold_{name}"
        file = folder / "datalist.json"
        if file.is_file() and file.read_text(encoding="utf-8") != _as_text(datalist):
            raise ValueError(
                f"{file} holds another division of the cases than this datalist's folds; expected the same, else a "
                "case could be tested by a model that was trained on it: name another output_dir"
            )
        require_same_run(bundle, folder, overrides)


def _run_fold(bundle: Path, folder: Path, datalist: dict[str, Any], overrides: dict[str, Any]) -> None:
    file = folder / "datalist.json"
    with write_atomically(file) as temporary:
        temporary.write_text(_as_text(datalist), encoding="utf-8")
    train_and_evaluate(bundle, folder, {**overrides, "datalist_file": file})


def _pool(evaluations: dict[str, Path], kind: str) -> list[dict[str, Any]]:
    return [{**row, "fold": name} for name, folder in evaluations.items() for row in read_rows(folder, kind)]


def _put_together(evaluations: dict[str, Path], output_dir: Path, title: str) -> Path:
    rows = _pool(evaluations, "cases")
    write_cases(rows, output_dir)
    write_summary(rows, output_dir)
    if all((folder / "slices.json").is_file() for folder in evaluations.values()):
        write_cases(_pool(evaluations, "slices"), output_dir, "slices")
    for folder in evaluations.values():
        for kind in ("arrays", "trajectory"):
            if (folder / kind).is_dir():
                shutil.copytree(folder / kind, output_dir / kind, dirs_exist_ok=True)
    comparison = format_comparison(compare_methods([rows]))
    with write_atomically(output_dir / "comparison.txt") as temporary:
        temporary.write_text(comparison + "\n", encoding="utf-8")
    print(comparison)
    return write_report(output_dir, output_dir, title=title)
