"""From a raw download to the table of results: prepared once, trained and scored for every seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hidiff_monai.bundle_runs import BUNDLES, require_seeds, train_and_evaluate
from hidiff_monai.data.prepare import DATASETS, prepare_dataset
from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.metrics import compare_methods, format_comparison
from hidiff_monai.report import read_rows

BUNDLE_OF = {"cvc_clinicdb_sequences": "cvc_clinicdb"}  # data sets with a bundle of another name


def run_reproduction(
    dataset: str,
    source: str | Path,
    output_dir: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    overrides: dict[str, Any] | None = None,
) -> str:
    """Prepares a data set, trains its bundle once per seed, scores each model on the test cases, and compares.

    Run again, it goes on where it was stopped: preparation and complete seeds are kept.

    Args:
        dataset: one of ``hidiff prepare``'s names that has a bundle.
        source: the raw download.
        output_dir: receives prepared/, seed_<s>/ with training and evaluation, and comparison.txt.
        seeds: one training each.
        overrides: further keys of the bundle's configuration and their values, for every seed.

    Returns:
        Refined against prior over all seeds, as written to comparison.txt.

    Raises:
        ValueError: if there is no such data set or bundle, a seed is no whole number, the folder holds another
            data set's run, or a step fails.
    """
    bundle = BUNDLES / BUNDLE_OF.get(dataset, dataset)
    names = sorted(name for name in DATASETS if (BUNDLES / BUNDLE_OF.get(name, name)).is_dir())
    if dataset not in names:
        raise ValueError(f"got dataset '{dataset}'; expected one of {names}")
    require_seeds(seeds)
    if "seed" in (overrides or {}):
        raise ValueError("got --seed; expected --seeds, with commas between them, such as 0,1,2")
    prepared = sorted({"dataset_dir", "datalist_file"} & (overrides or {}).keys())
    if prepared:
        raise ValueError(f"got {prepared}; expected none of these: the data are those that are prepared from {source}")
    output_dir = require_writable(output_dir).resolve()
    dataset_dir, datalist = _prepare(dataset, source, output_dir)
    settings = {"dataset_dir": dataset_dir, "datalist_file": datalist, **(overrides or {})}
    evaluations = []
    for number, seed in enumerate(seeds, 1):
        print(f"{dataset}, seed {seed} ({number} of {len(seeds)})", flush=True)
        evaluations.append(train_and_evaluate(bundle, output_dir / f"seed_{seed}", {**settings, "seed": seed}))
    comparison = format_comparison(compare_methods([read_rows(folder, "cases") for folder in evaluations]))
    with write_atomically(output_dir / "comparison.txt") as temporary:
        temporary.write_text(comparison + "\n", encoding="utf-8")
    return comparison


def _prepare(dataset: str, source: str | Path, output_dir: Path) -> tuple[Path, Path]:
    """As `prepare_dataset`, once: seeds that are there were trained on what was prepared then."""
    note, wanted = (
        output_dir / "prepared.json",
        {"dataset": dataset, "source": str(Path(source).expanduser().resolve())},
    )
    if note.is_file():
        done = json.loads(note.read_text(encoding="utf-8"))
        if {key: done[key] for key in wanted} != wanted:
            raise ValueError(f"{note} says {done}; expected {wanted}: name another output folder, or the same data")
        return Path(done["dataset_dir"]), Path(done["datalist"])
    dataset_dir, datalist = prepare_dataset(dataset, source, output_dir / "prepared")
    with write_atomically(note) as temporary:
        content = {**wanted, "dataset_dir": str(dataset_dir), "datalist": str(datalist)}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return dataset_dir, datalist
