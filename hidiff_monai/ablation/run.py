"""`hidiff ablate`: one pre-training, a training a variant from there, and every one scored on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hidiff_monai.ablation.figure import draw_ablation
from hidiff_monai.ablation.runs import PRETRAINING, SeedRuns, evaluation_of, is_scored, write_json
from hidiff_monai.ablation.settings import describe_ablation, read_epochs, require_free_keys, require_same_settings
from hidiff_monai.ablation.table import format_markdown, score_line
from hidiff_monai.ablation.variants import ALONE, AS_BUNDLE, VARIANTS, Sampling, Variant
from hidiff_monai.bundle_runs import find_config, require_seeds
from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.io.command_line import require_known_options


def run_ablation(
    bundle: str | Path,
    output_dir: str | Path,
    variants: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    section: str = "test",
    overrides: dict[str, Any] | None = None,
) -> str | None:
    """Trains and scores every variant of `VARIANTS` with each of its samplings.

    All variants of a seed start from one pre-trained segmentor and an untrained refiner, and see the same number of
    mini-batches; the segmentor alone takes a step in each of them, which is more than it takes in the alternation but
    in "trained as published". Run again, it goes on where it was stopped; what is complete is kept.

    Args:
        bundle: the bundle's folder.
        output_dir: receives seed_<s>/<variant>/ with training and evaluations, and once all are there ablation.json,
            ablation.md and ablation.png.
        variants: names of those to run, as when several processes share the work once the pre-training is done; None
            for all.
        seeds: one pre-training and one training of each variant a seed.
        section: of the datalist, on which all are scored.
        overrides: further keys of the bundle's configuration and their values, for all of them.

    Returns:
        The table, or None as long as other variants are missing.

    Raises:
        ValueError: if a name is unknown, the bundle has no alternation, an override would undo a variant, the folder
            holds an ablation with other settings, or a run fails.
    """
    bundle, overrides = Path(bundle).resolve(), dict(overrides or {})
    names = [variant.name for variant in VARIANTS]
    chosen = names if variants is None else [str(name) for name in variants]
    unknown = sorted(set(chosen) - set(names))
    if unknown or not chosen:
        raise ValueError(f"got variants {unknown or chosen}; expected some of {names}")
    require_seeds(seeds)
    configs = [find_config(bundle, name) for name in ("train", "evaluate")]
    require_known_options(overrides, configs, overrides.get("tracking"))
    require_free_keys(overrides)
    epochs, facts = read_epochs(bundle, overrides), describe_ablation(bundle, section, overrides)
    output_dir = require_writable(output_dir).resolve()
    require_same_settings(output_dir / "settings.json", facts)
    for seed in seeds:
        runs = SeedRuns(bundle, output_dir / f"seed_{seed}", section, epochs, {**overrides, "seed": seed})
        runs.pretrain()
        for variant in VARIANTS:
            if variant.name in chosen:
                print(f"seed {seed}: {variant.title}", flush=True)
                runs.train(variant)
    return put_together(output_dir, seeds, facts)


def put_together(output_dir: Path, seeds: Sequence[int], facts: dict[str, Any]) -> str | None:
    """Writes table and picture of all rows; None, and nothing is written, as long as one is missing.

    Args:
        output_dir: with the runs of all seeds.
        seeds: over which scores are averaged.
        facts: that stand in ablation.json above the rows.
    """

    def scored(name: str, sampling: Sampling = AS_BUNDLE) -> list[Path]:
        return [evaluation_of(output_dir / f"seed_{seed}" / name, sampling) for seed in seeds]

    expected = {PRETRAINING: (AS_BUNDLE,), **{variant.name: variant.samplings for variant in VARIANTS}}
    missing = [
        name
        for name, samplings in expected.items()
        if not all(is_scored(folder) for sampling in samplings for folder in scored(name, sampling))
    ]
    if missing:
        print(f"{', '.join(missing)}: not scored yet; the table is written once they are", flush=True)
        return None
    baseline = scored(ALONE)
    lines = [score_line(baseline, scored(PRETRAINING), "prior", Variant(PRETRAINING, "segmentor, pre-trained"))]
    for variant in VARIANTS:
        method = "prior" if variant.name == ALONE else "refined"
        for sampling in variant.samplings:
            lines.append(score_line(baseline, scored(variant.name, sampling), method, variant, sampling))
    write_json(output_dir / "ablation.json", {**facts, "seeds": list(seeds), "rows": [asdict(line) for line in lines]})
    text = format_markdown(lines, len(seeds))
    with write_atomically(output_dir / "ablation.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    with write_atomically(output_dir / "ablation.png") as temporary:
        temporary.write_bytes(draw_ablation(lines))
    return text
