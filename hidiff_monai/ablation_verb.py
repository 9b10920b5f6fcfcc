"""The verb ``hidiff ablate``; it imports what it needs when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def ablate(
    bundle: str,
    dataset_dir: str | None = None,
    output_dir: str | None = None,
    variants: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] = (0,),
    section: str = "test",
    **overrides: Any,
) -> None:
    """What each part of HiDiff is worth: trains and scores every variant of the paper's ablations; resumes.

    Args:
        bundle: a bundle's folder, or the name of one in bundles/, for example drive.
        dataset_dir: the folder that the datalist's paths are relative to; the bundle's own where it is left out.
        output_dir: the folder for everything that is written, ablation.md, .json and .png among it; output/ablation of
            the bundle where it is left out.
        variants: which to run, for example v4,v5, where several processes share the work; all where it is left out.
        seeds: one training of each variant, for example 0,1,2.
        section: of the datalist, on which all are scored.
        overrides: any other key of the bundle's configuration, for example --max_epochs 40.
    """
    from hidiff_monai.ablation import run_ablation
    from hidiff_monai.bundle_runs import find_bundle
    from hidiff_monai.io.command_line import as_list

    folder = find_bundle(bundle)
    output = folder / "output" / "ablation" if output_dir is None else Path(str(output_dir)).expanduser()
    data = {} if dataset_dir is None else {"dataset_dir": str(Path(str(dataset_dir)).expanduser().resolve())}
    chosen = None if variants is None else as_list(variants)
    table = run_ablation(folder, output, chosen, as_list(seeds), section, {**data, **overrides})
    if table is not None:
        print(f"{table}\n\n{output / 'ablation.png'}")
