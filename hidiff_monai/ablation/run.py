"""`hidiff ablate`: one pre-training, a training a variant from there, and every one scored on the same cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from hidiff_monai.ablation.figure import draw_ablation
from hidiff_monai.ablation.table import format_markdown, score_line
from hidiff_monai.ablation.variants import ALONE, AS_BUNDLE, VARIANTS, Sampling, Variant
from hidiff_monai.bundle_runs import find_config, run_bundle
from hidiff_monai.io import require_writable, write_atomically

PRETRAINING = "pretraining"
PLACES = ("dataset_dir", "datalist_file", "device", "num_workers")  # may differ when a run is taken up


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
    mini-batches. The segmentor alone takes as many further steps as it takes in the alternation. Run again, it goes on
    where it was stopped; what is complete is kept.

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
    if unknown or not chosen or not seeds:
        raise ValueError(f"got variants {unknown or chosen}, seeds {list(seeds)}; expected some of {names}, and a seed")
    _require_free_keys(overrides)
    epochs = _read_epochs(bundle, overrides)
    output_dir = require_writable(output_dir).resolve()
    told = {key: value for key, value in overrides.items() if key not in PLACES}
    facts = {"bundle": bundle.name, "section": section, **epochs, "overrides": told}
    _require_same_settings(output_dir / "settings.json", facts)
    for seed in seeds:
        runs = _Runs(bundle, output_dir / f"seed_{seed}", section, epochs, {**overrides, "seed": seed})
        runs.pretrain()
        for variant in VARIANTS:
            if variant.name in chosen:
                print(f"seed {seed}: {variant.title}", flush=True)
                runs.train(variant)
    return _put_together(output_dir, seeds, facts)


class _Runs:
    """The runs of one seed: ``folder``/<variant> for trainings, below it one folder an evaluation."""

    def __init__(self, bundle: Path, folder: Path, section: str, epochs: dict[str, int], settings: dict[str, Any]):
        self.folder = folder
        self.section = section
        self.epochs = epochs
        self.train_file, self.evaluate_file = find_config(bundle, "train"), find_config(bundle, "evaluate")
        evaluation = ConfigParser.load_config_file(self.evaluate_file)
        self.own_keys = evaluation.keys() - ConfigParser.load_config_file(self.train_file).keys()
        self.draws_chains = [
            number for number, handler in enumerate(evaluation["validate#handlers"]) if "trajectory_cases" in handler
        ]
        self.settings = {**settings, "bundle_root": bundle}

    def pretrain(self) -> None:
        """Trains the segmentor that all variants start from."""
        number = self.epochs["pretrain_epochs"]
        self._train(PRETRAINING, {}, {"pretrain_epochs": number, "max_epochs": number})
        self._evaluate(PRETRAINING, {}, AS_BUNDLE)

    def train(self, variant: Variant) -> None:
        """Trains a variant from the pre-trained segmentor, and scores it."""
        number = self.epochs["alternating_epochs"]
        phases = {"pretrain_epochs": 0, "max_epochs": number}
        if variant.name == ALONE:
            alone = self.epochs["segmentor_epochs"]
            phases = {"pretrain_epochs": alone, "max_epochs": alone}
        start = self.folder / PRETRAINING / "models" / "model.pt"
        configuration = {
            "+imports": [
                "$from hidiff_monai.ablation import with_segmentor",
                "$from hidiff_monai.inferers import accelerate",
            ],
            "network": f"$with_segmentor(@network_def.to(@device), {str(start)!r})",
            **variant.configuration(),
        }
        self._train(variant.name, configuration, phases)
        if variant.is_standard:
            configuration["validate#evaluator#network"] = "$accelerate(@network, @device).network"
        for sampling in variant.samplings:
            self._evaluate(variant.name, configuration, sampling)

    def _train(self, name: str, configuration: dict[str, Any], phases: dict[str, int]) -> None:
        done = self.folder / name / "trained.json"
        if done.is_file():
            return
        files = [self.train_file, _write_json(self.folder / name / "train.json", configuration)]
        settings = {key: value for key, value in self.settings.items() if key.split("#")[0] not in self.own_keys}
        run_bundle("training", files, {**settings, **phases, "output_dir": self.folder / name})
        _write_json(done, phases)

    def _evaluate(self, name: str, configuration: dict[str, Any], sampling: Sampling) -> None:
        folder = evaluation_of(self.folder / name, sampling)
        if is_scored(folder):
            return
        own = {
            "report": "@manifest",  # no pages: the table is the report
            **{f"validate#handlers#{number}#trajectory_cases": 0 for number in self.draws_chains},
        }
        files = [
            self.train_file,
            self.evaluate_file,
            _write_json(folder.with_suffix(".json"), {**configuration, **own, **sampling.settings()}),
        ]
        run_bundle(
            "run",
            files,
            {**self.settings, "section": self.section, "output_dir": self.folder / name, "evaluation_dir": folder},
        )


def _put_together(output_dir: Path, seeds: Sequence[int], facts: dict[str, Any]) -> str | None:
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
    _write_json(output_dir / "ablation.json", {**facts, "seeds": list(seeds), "rows": [asdict(line) for line in lines]})
    text = format_markdown(lines)
    with write_atomically(output_dir / "ablation.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    with write_atomically(output_dir / "ablation.png") as temporary:
        temporary.write_bytes(draw_ablation(lines))
    return text


def evaluation_of(folder: Path, sampling: Sampling) -> Path:
    """Where the scores of a training's folder lie."""
    return folder / f"evaluation_{sampling.name}"


def is_scored(evaluation_dir: Path) -> bool:
    """Whether an evaluation is complete: its summary is the last file that scores are written to."""
    return (evaluation_dir / "summary.json").is_file()


def _require_free_keys(overrides: dict[str, Any]) -> None:
    taken = {key for variant in VARIANTS for key in variant.configuration()} | {"network", "initial_weights"}
    clash = sorted(key for key in overrides if key in taken)
    if clash:
        raise ValueError(f"got overrides {clash}; expected none of those, which the variants set: leave them out")


def _read_epochs(bundle: Path, overrides: dict[str, Any]) -> dict[str, int]:
    parser = ConfigParser()
    parser.read_config(find_config(bundle, "train"))
    keys = ("pretrain_epochs", "max_epochs", "alternation#segmentor_every")
    parser.update({key: overrides[key] for key in keys if key in overrides})
    try:
        pretraining, last, every = (int(parser.get_parsed_content(key)) for key in keys)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{bundle}: its train.json lacks one of {', '.join(keys)} ({error}); expected a bundle of this package"
        ) from error
    if not 0 < pretraining < last or every < 1:
        raise ValueError(
            f"pretrain_epochs is {pretraining}, max_epochs {last}, segmentor_every {every}; expected pre-training and "
            "alternation, both of at least one epoch, and a segmentor that is trained in both"
        )
    alternating = last - pretraining
    return {
        "pretrain_epochs": pretraining,
        "alternating_epochs": alternating,
        "segmentor_epochs": max(1, round(alternating / every)),
    }


def _require_same_settings(file: Path, facts: dict[str, Any]) -> None:
    """Rows of other settings cannot stand in one table."""
    text = json.dumps(facts, indent=1, default=str)
    if not file.is_file():
        _write_json(file, facts)
    elif file.read_text(encoding="utf-8").strip() != text:
        raise ValueError(
            f"{file} says\n{file.read_text(encoding='utf-8').strip()}\nexpected\n{text}\nRows of other settings cannot "
            "stand in one table: name another output folder, or the same settings"
        )


def _write_json(file: Path, content: dict[str, Any]) -> str:
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    return str(file)
