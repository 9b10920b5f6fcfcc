"""A mask and its uncertainty for one image of a reader's: what `hidiff predict` would give."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from threading import Lock
from time import perf_counter
from typing import Any

import itk
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list, name_to_device

from hidiff_monai.label.served import WEIGHTS, ServedBundle
from hidiff_monai.prediction.case import predict_case, read_case
from hidiff_monai.prediction.outputs import write_case
from hidiff_monai.prediction.verdict import compare_masks, measure_classes, measure_uncertainty, voxel_volume_ml

UNCERTAINTY_FILE = "uncertainty_file"  # in the parameters, for whoever called: theirs to remove, with its folder


class BundleSegmentation(InferTask):
    """Masks on the grid of the image: NIfTI, or NRRD where a viewer wants it, for a volume; PNG for a photograph.

    Args:
        served: the bundle.
    """

    def __init__(self, served: ServedBundle) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={name: number for number, name in enumerate(served.names, start=1)},
            dimension=3 if served.is_volumetric else 2,
            description=served.metadata["description"],
            config={"device": device_list(), "weights": list(WEIGHTS)},
        )
        self.served = served
        self._turn = Lock()  # requests come in threads, and the network's buffers hold one image

    def is_valid(self) -> bool:
        """Always: weights may still come, by training."""
        return True

    def get_path(self, validate: bool = True) -> str | None:
        """The file of the latest weights, or None as long as there are none."""
        return str(self.served.weights()) if self.served.has_weights else None

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Predicts an image.

        Args:
            request: "image", the file; "device" and "weights" where they are not the first ones of the config;
                "result_extension", ".nrrd" of OHIF and 3D Slicer.

        Returns:
            The file of the mask, and what goes with it: "uncertainty", nats a mask pixel, None where the mask is empty;
            "classes", their sizes; "verdict", what the refiner changed; `UNCERTAINTY_FILE`, entropy a pixel.

        Raises:
            ValueError: if the image, or the weights, are not what the bundle takes.
        """
        start = perf_counter()
        choice = _first(request.get("weights", WEIGHTS))
        with self._turn:
            model, item = self.served.open(request["image"], name_to_device(request.get("device")), choice)
            image = read_case(model, item)
            read = perf_counter()
            maps = predict_case(model, image)
        inferred = perf_counter()
        folder = Path(mkdtemp(prefix="hidiff_"))
        try:
            files = write_case(folder / item["id"], maps, model.names, f"HiDiff {model.bundle.name}", rtstruct=False)
            wants_nrrd = self.served.is_volumetric and request.get("result_extension") == ".nrrd"
            mask = _hand_over(folder / files["mask"], wants_nrrd)
        except Exception:
            shutil.rmtree(folder)
            raise
        voxel_ml = voxel_volume_ml(maps.meta["source_affine"]) if "source_affine" in maps.meta else None
        return str(mask), {
            "label_names": self.labels,
            "uncertainty": measure_uncertainty(maps.entropy, maps.refined),
            "classes": measure_classes(maps.refined, maps.prior, model.names, voxel_ml),
            "verdict": compare_masks(maps.refined, maps.prior),
            "weights": str(model.checkpoint),
            "centroids": {},  # OHIF expects the key
            "latencies": {"pre": read - start, "infer": inferred - read, "total": perf_counter() - start},
            UNCERTAINTY_FILE: str(folder / files["uncertainty"]),
        }


def _hand_over(mask: Path, wants_nrrd: bool) -> Path:
    """A file that MONAI Label removes when it has sent it; it looks for no folder."""
    with NamedTemporaryFile(
        prefix="hidiff_", suffix=".nrrd" if wants_nrrd else "".join(mask.suffixes), delete=False
    ) as file:
        target = Path(file.name)
    if wants_nrrd:
        itk.imwrite(itk.imread(mask), target)
    else:
        shutil.move(mask, target)
    return target


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, (list, tuple)) else value)
