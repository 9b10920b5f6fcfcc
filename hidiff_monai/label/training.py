"""From the labels that readers have saved to new weights, by the bundle's own training."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from hidiff_monai.io import write_atomically
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.label.collected import collect_cases, write_dataset
from hidiff_monai.label.served import ServedBundle
from hidiff_monai.recipes.federated import share_of_pretraining

DEFAULTS = {"max_epochs": 20, "val_split": 0.2, "pretrained": True}


class BundleTraining(TrainTask):
    """Trains both networks in alternation, from the latest weights on, and then serves the result.

    Args:
        served: the bundle.
    """

    def __init__(self, served: ServedBundle) -> None:
        super().__init__(served.metadata["description"])
        self.served = served
        self.logger = logging.getLogger(__name__)

    def config(self) -> dict[str, Any]:
        """What a reader may choose: device, epochs, share of the labelled images that validate, where to start."""
        return {"device": device_list(), **DEFAULTS}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Trains on every image that has a final label; the weights are replaced only when all went well.

        Args:
            request: keys of `config`; "pretrained" false starts from random weights.
            datastore: images and labels.

        Returns:
            The folder of the run and the file of the new weights.

        Raises:
            ValueError: if fewer than two images are labelled, a label is none of the bundle's, or the training fails.
        """
        options = {**DEFAULTS, **request}
        run = self.served.work / "trainings" / datetime.now().strftime("%Y%m%d_%H%M%S_%f")
        try:
            cases = collect_cases(self.served, datastore, float(options["val_split"]), run / "data")
            self._train(options, write_dataset(self.served, cases, run / "data"), run)
        except Exception as error:
            sentence = find_value_error(error)
            if sentence is None:
                raise
            raise sentence from None  # the last line of the log is what a reader sees
        with write_atomically(self.served.trained) as temporary:
            shutil.copyfile(run / "models" / "model.pt", temporary)
        self.logger.info(f"trained on {len(cases)} images; the weights are in {self.served.trained}")
        return {"run": str(run), "weights": str(self.served.trained)}

    def _train(self, options: Mapping[str, Any], datalist: Path, run: Path) -> None:
        """The bundle's training, with the readers' data in the place of its own."""
        configs = self.served.bundle / "configs"
        settings = {
            "bundle_root": str(self.served.bundle),
            "dataset_dir": str(datalist.parent),
            "datalist_file": str(datalist),
            "output_dir": str(run),
            "device": name_to_device(options.get("device")),
            "max_epochs": int(options["max_epochs"]),
            "alternation#segmentor_epochs": None,  # a number would count the epochs of the bundle's own schedule
            **self._beginning(bool(options["pretrained"]), int(options["max_epochs"])),
        }
        files = {"config_file": str(configs / "train.json"), "meta_file": str(configs / "metadata.json")}
        workflow = ConfigWorkflow(**files, logging_file=False, workflow_type="train", **settings)
        workflow.initialize()
        workflow.run()
        workflow.finalize()

    def _beginning(self, is_pretrained: bool, max_epochs: int) -> dict[str, Any]:
        """From weights both networks train at once; without, the segmentor's pre-training has its usual share."""
        if is_pretrained and self.served.has_weights:
            return {"pretrain_epochs": 0, "initial_weights": str(self.served.weights())}
        return {"pretrain_epochs": share_of_pretraining(self.served.bundle, max_epochs)}
