"""From predicted volumes to figures per case and class, and to slices for the report."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch
from monai.engines import SupervisedEvaluator
from monai.utils.enums import CommonKeys as Keys

from hidiff_monai.handlers.evaluation import EvaluationWriter, picture_of
from hidiff_monai.inferers import case_uncertainty
from hidiff_monai.metrics import hd95, score_case

WHOLE_VOLUME = "whole volume"


class VolumeEvaluationWriter(EvaluationWriter):
    """Scores prior and refined classes of whole volumes; each class has its row.

    Expects decollated output items with *refined*, *prior*, *label* (class numbers, 0 the background) and *entropy*,
    (1, X, Y, D) each, and *image* (C, X, Y, D); batch items with *id* and, where the voxels' size is known,
    *spacing*, three sizes in mm. HD95 is given in voxels, the papers' convention, and as *hd95_mm*, NaN without
    spacing. The uncertainty of a class is the entropy of the voxels that prior or refined mask give it, per voxel of
    the refined one.

    For the report, the slice with most of a class (in the label, or where that has none in the refined mask) is saved
    as the case's picture of that class.

    Args:
        folder: receives cases.csv, cases.json, summary.json, table.txt, arrays/<case>_<class>.npz.
        target_names: names of the classes 1 ... K.
    """

    def __init__(self, folder: str, target_names: list[str]) -> None:
        super().__init__(folder, target_names)
        self._has_warned = False

    def _score_item(self, engine: SupervisedEvaluator, item: dict[str, Any], output: dict[str, torch.Tensor]) -> None:
        case = str(item["id"])
        classes = {key: torch.as_tensor(output[key])[0].cpu().numpy() for key in ("label", "refined", "prior")}
        entropy = torch.as_tensor(output["entropy"])[0].cpu()
        spacing = self._spacing_mm(item)
        for number, target in enumerate(self.target_names, start=1):
            masks = {key: value == number for key, value in classes.items()}
            touched = torch.from_numpy(masks["refined"] | masks["prior"])  # the class's own voxels, before or after
            uncertainty = case_uncertainty(entropy.float(), torch.from_numpy(masks["refined"]).float(), touched)
            for method in ("prior", "refined"):
                scores = score_case(masks[method], masks["label"])
                row = {"case": case, "method": method, "region": WHOLE_VOLUME, "target": target}
                distance = math.nan if spacing is None else hd95(masks[method], masks["label"], spacing_mm=spacing)
                self.rows.append({**row, **scores, "hd95_mm": distance, "uncertainty": uncertainty})
            self._save_slice(self._array_name(case, target), masks, entropy, torch.as_tensor(output[Keys.IMAGE]))

    def _spacing_mm(self, item: dict[str, Any]) -> list[float] | None:
        if "spacing" in item:
            return [float(size) for size in item["spacing"]]
        if not self._has_warned:
            logging.getLogger(__name__).warning(
                f"case {item['id']}: the size of its voxels is unknown (spacing is null in the datalist): hd95_mm is "
                "NaN, here and in every such case, HD95 in voxels stands; prepare from NIfTI files to have it in mm"
            )
        self._has_warned = True
        return None

    def _save_slice(self, name: str, masks: dict[str, np.ndarray], entropy: torch.Tensor, image: torch.Tensor) -> None:
        areas = masks["label" if masks["label"].any() else "refined"].sum(axis=(0, 1))
        k = int(areas.argmax())
        arrays = {key: _upright(masks[key][..., k]).astype(np.float32) for key in ("prior", "refined")}
        arrays["entropy"] = _upright(entropy[..., k].float().numpy())
        arrays["label"] = _upright(masks["label"][..., k]).astype(np.uint8)
        arrays["region"] = np.ones_like(arrays["label"])
        picture = _upright(picture_of(image[:1, ..., k], stretch=True))
        self._save("arrays", name, arrays, image=picture, threshold=self.threshold)


def _upright(plane: np.ndarray) -> np.ndarray:
    """(X, Y, ...) in RAS -> rows from anterior to posterior, the patient's right on the left, as radiologists look."""
    return np.ascontiguousarray(np.swapaxes(plane, 0, 1)[::-1, ::-1])
