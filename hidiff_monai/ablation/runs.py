"""The trainings and evaluations of one seed, each a process of its own; what is complete is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from hidiff_monai.ablation.variants import ALONE, AS_BUNDLE, Sampling, Variant
from hidiff_monai.bundle_runs import find_config, for_training, run_bundle
from hidiff_monai.io import write_atomically

PRETRAINING = "pretraining"


class SeedRuns:
    """What is run for one seed: ``folder``/<variant> for each training, below it a folder for each evaluation.

    Args:
        bundle: the bundle's folder.
        folder: receives everything.
        section: on which all are scored.
        epochs: of `read_epochs`.
        settings: further keys of the bundle's configuration and their values, the seed among them.
    """

    def __init__(
        self, bundle: Path, folder: Path, section: str, epochs: dict[str, int], settings: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.section = section
        self.epochs = epochs
        self.train_file, self.evaluate_file = find_config(bundle, "train"), find_config(bundle, "evaluate")
        evaluation = ConfigParser.load_config_file(self.evaluate_file)
        self.draws_chains = [
            number for number, handler in enumerate(evaluation["validate#handlers"]) if "trajectory_cases" in handler
        ]
        self.settings = {**settings, "bundle_root": bundle}

    def pretrain(self) -> None:
        """Trains the segmentor that all variants start from, and scores it."""
        number = self.epochs["pretrain_epochs"]
        self._train(PRETRAINING, {}, {"pretrain_epochs": number, "max_epochs": number})
        self._evaluate(PRETRAINING, {}, AS_BUNDLE)

    def train(self, variant: Variant) -> None:
        """Trains a variant from the pre-trained segmentor, and scores it with each of its samplings."""
        number = self.epochs["alternating_epochs"]
        phases = {"pretrain_epochs": number if variant.name == ALONE else 0, "max_epochs": number}
        start = self.folder / PRETRAINING / "models" / "model.pt"
        configuration = {
            "+imports": [
                "$from hidiff_monai.inferers import accelerate",
                "$from hidiff_monai.io import with_segmentor",
            ],
            "pretrained_segmentor": str(start),  # by itself: within an expression, MONAI reads marks in it
            "network": "$with_segmentor(@network_def.to(@device), @pretrained_segmentor)",
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
        content = {**configuration, "alternation#segmentor_epochs": None}  # every row alternates
        files = [self.train_file, write_json(self.folder / name / "train.json", content)]
        settings = for_training(self.settings, self.train_file, self.evaluate_file)
        run_bundle("training", files, {**settings, **phases, "output_dir": self.folder / name})
        write_json(done, phases)

    def _evaluate(self, name: str, configuration: dict[str, Any], sampling: Sampling) -> None:
        folder = evaluation_of(self.folder / name, sampling)
        if is_scored(folder):
            return
        own = {
            "report": "@manifest",  # no pages: the table is the report
            **{f"validate#handlers#{number}#trajectory_cases": 0 for number in self.draws_chains},
        }
        file = write_json(folder.with_suffix(".json"), {**configuration, **own, **sampling.settings()})
        places = {"section": self.section, "output_dir": self.folder / name, "evaluation_dir": folder}
        run_bundle("run", [self.train_file, self.evaluate_file, file], {**self.settings, **places})


def evaluation_of(folder: Path, sampling: Sampling) -> Path:
    """Where the scores of a training's folder lie."""
    return folder / f"evaluation_{sampling.name}"


def is_scored(evaluation_dir: Path) -> bool:
    """Whether the scores of all cases are there: the summary is written after them."""
    return (evaluation_dir / "summary.json").is_file()


def write_json(file: Path, content: dict[str, Any]) -> str:
    """Writes a file of JSON whole or not at all, and gives its path."""
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    return str(file)
