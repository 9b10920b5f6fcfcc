"""The application that MONAI Label starts."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

import hidiff_monai
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.label.inference import UNCERTAINTY_FILE, BundleSegmentation
from hidiff_monai.label.served import ServedBundle
from hidiff_monai.label.strategy import MostUncertain
from hidiff_monai.label.training import BundleTraining

UNCERTAINTY = "uncertainty"

logger = logging.getLogger(__name__)


class HiDiffApp(MONAILabelApp):
    """One bundle: its masks with their uncertainty, and training from the labels that were saved.

    Args:
        app_dir: the folder for everything the server writes.
        studies: a folder of images, or the address of a DICOMweb server.
        conf: "bundle", its folder; "checkpoint", the weights to start from, or "".
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.served = ServedBundle(conf["bundle"], app_dir, conf.get("checkpoint"))
        self.model_name = Path(conf["bundle"]).name
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"HiDiff {self.model_name}",
            description=self.served.metadata["task"],
            version=hidiff_monai.__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """One model, named as the bundle."""
        return {self.model_name: BundleSegmentation(self.served)}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Its training."""
        return {self.model_name: BundleTraining(self.served)}

    def init_strategies(self) -> dict[str, Strategy]:
        """What "next sample" can mean."""
        return {"uncertain": MostUncertain(UNCERTAINTY, self.served), "first": First(), "random": Random()}

    def _download_dcmqi_tools(self) -> None:
        """Without the network the server starts all the same: the tool only turns labels into DICOM-SEG."""
        try:
            super()._download_dcmqi_tools()
        except Exception as error:  # MONAI wraps what a download raises in a bare one
            logger.warning(
                f"dcmqi cannot be downloaded ({error}); expected itkimage2segimage on the path, without which labels "
                "cannot be sent to the DICOMweb server: install dcmqi"
            )

    def batch_infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """As MONAI Label's, but one image at a time, as the network's buffers hold one, and never on 0 GPUs."""
        alone = {"multi_gpu": torch.cuda.is_available(), "max_workers": 1}
        result: dict[str, Any] = super().batch_infer({**request, **alone}, datastore)
        return result

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """As MONAI Label's; of an image in a folder the uncertainty map is kept beside its labels.

        ``GET /datastore/label?label=<image>&tag=uncertainty`` returns it.

        Raises:
            HTTPException: with the sentence that says why an image has no mask.
        """
        try:
            result: dict[str, Any] = super().infer(request, datastore)
        except Exception as error:
            sentence = find_value_error(error)
            if sentence is None:
                raise
            raise HTTPException(status_code=500, detail=str(sentence)) from error
        image, store = request["image"], datastore or self.datastore()
        file = Path(result["params"].pop(UNCERTAINTY_FILE))
        try:
            if isinstance(store, LocalDatastore) and image in store.list_images():
                score = result["params"][UNCERTAINTY]
                store.save_label(image, str(file), UNCERTAINTY, {UNCERTAINTY: score, "model": request["model"]})
                store.update_image_info(image, {UNCERTAINTY: score})
                result["params"]["uncertainty_map"] = f"/datastore/label?label={image}&tag={UNCERTAINTY}"
        finally:
            shutil.rmtree(file.parent)
        logger.info(f"{image}: uncertainty {result['params'][UNCERTAINTY]}")
        return result
