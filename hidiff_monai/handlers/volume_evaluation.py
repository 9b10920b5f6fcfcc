"""From predicted volumes to figures per case and class, and to slices for the report."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.utils.enums import CommonKeys as Keys

from hidiff_monai.engines.distributed import gather_cases
from hidiff_monai.handlers.evaluation import EvaluationWriter, identity, picture_of
from hidiff_monai.handlers.slice_probabilities import SliceProbabilities
from hidiff_monai.inferers import VolumeInferer, case_uncertainty
from hidiff_monai.io import write_atomically
from hidiff_monai.io.geometry import upright
from hidiff_monai.metrics import (
    CaseCalibration,
    HalfLevels,
    array_name,
    coin_toss_nats,
    format_table,
    regions_of_slices,
    score_case,
    score_slices,
    write_cases,
)

WHOLE_VOLUME, SLICE = "whole volume", " slice "


class VolumeEvaluationWriter(EvaluationWriter):
    """Scores prior and refined classes of whole volumes and of their slices; each class has its row.

    Expects decollated output items with *refined*, *prior*, *label* (class numbers, 0 the background) and *entropy*,
    (1, X, Y, D) each, and *image* (C, X, Y, D); batch items with *id*, *patient* and, where the voxels' size is known,
    *spacing*, three sizes in mm; *acquired* says that planes were not turned to RAS. HD95 is given in voxels, the
    papers' convention, and as *hd95_mm*, NaN without spacing. The uncertainty of a class is the entropy of the voxels
    that prior or refined mask give it, per voxel of the refined one.

    For the report, the slice with most of a class (in the label, or where that has none in the refined mask) is saved
    as the case's picture of that class.

    Where the evaluator's inferer is a `VolumeInferer`, the probabilities are looked at while the slices pass: their
    calibration is written as for images, and a sample of voxels for `hidiff calibrate`, unless the labels lack classes.

    Args:
        folder: receives cases.csv, cases.json, summary.json, table.txt, calibration.json, arrays/<case>_<class>.npz,
            probabilities/<case>.npz; and slices.csv, slices.json, slices_table.txt.
        target_names: names of the classes 1 ... K.
        labelled_names: those of them that the data's labels hold, all others are not scored; None: all.
    """

    def __init__(self, folder: str, target_names: list[str], labelled_names: list[str] | None = None) -> None:
        labelled_names = target_names if labelled_names is None else labelled_names
        if not labelled_names or not set(labelled_names) <= set(target_names):
            raise ValueError(f"the labels hold {labelled_names}; expected some of the classes {target_names}")
        super().__init__(folder, [name for name in target_names if name in labelled_names])
        self.class_of = {name: number for number, name in enumerate(target_names, start=1)}
        self.slice_rows: list[dict[str, Any]] = []
        self._probabilities: dict[int, SliceProbabilities] = {}  # by number in the batch
        self._has_warned = False

    def attach(self, engine: SupervisedEvaluator) -> None:
        """Registers the handler with an evaluator."""
        super().attach(engine)
        engine.add_event_handler(Events.ITERATION_STARTED, lambda _: self._probabilities.clear())

    def _start(self, engine: SupervisedEvaluator) -> None:
        super()._start(engine)
        self.slice_rows.clear()
        inferer = getattr(engine, "inferer", None)  # an evaluator attaches its handlers before it has one
        if isinstance(inferer, VolumeInferer):
            inferer.on_slices = lambda case, place, maps: self._look(engine, case, place, maps)

    def _look(self, engine: SupervisedEvaluator, case: int, place: slice, maps: dict[str, torch.Tensor]) -> None:
        label = torch.as_tensor(engine.state.output[Keys.LABEL][case, 0])  # the batch's, not decollated yet
        if case not in self._probabilities:
            scored = {name: self.class_of[name] for name in self.target_names}
            self._probabilities[case] = SliceProbabilities(scored, label.shape[-1])
        self._probabilities[case].add(maps, label[..., place].movedim(-1, 0))

    def _score(self, engine: SupervisedEvaluator) -> None:
        super()._score(engine)
        for number, (item, output) in enumerate(zip(engine.state.batch, engine.state.output, strict=True)):
            if number in self._probabilities:
                self._calibrate(identity(item)["case"], output, self._probabilities[number])

    def _calibrate(self, case: str, output: dict[str, torch.Tensor], probabilities: SliceProbabilities) -> None:
        label, refined = (torch.as_tensor(output[key])[0].cpu().numpy() for key in ("label", "refined"))
        levels = HalfLevels(torch.as_tensor(output["entropy"])[0].cpu().half().numpy())
        for target in self.target_names:
            number = self.class_of[target]
            retention = levels.retention((refined == number) != (label == number))
            self.calibration.append(CaseCalibration(case, target, WHOLE_VOLUME, probabilities.sums[target], retention))
        if len(self.target_names) == len(self.class_of):
            self._save("probabilities", case, probabilities.sample())

    def _score_item(self, engine: SupervisedEvaluator, item: dict[str, Any], output: dict[str, torch.Tensor]) -> None:
        case = identity(item)
        classes = {key: torch.as_tensor(output[key])[0].cpu().numpy() for key in ("label", "refined", "prior")}
        entropy = torch.as_tensor(output["entropy"])[0].cpu()
        spacing = self._spacing_mm(item)
        labelled = set(np.unique(np.nonzero(classes["label"])[-1]))
        for target in self.target_names:
            masks = {key: value == self.class_of[target] for key, value in classes.items()}
            touched = torch.from_numpy(masks["refined"] | masks["prior"])  # the class's own voxels, before or after
            uncertainty = case_uncertainty(entropy.float(), torch.from_numpy(masks["refined"]).float(), touched)
            for method in ("prior", "refined"):
                row = {**case, "method": method, "region": WHOLE_VOLUME, "target": target}
                scores = {"hd95_mm": math.nan, **score_case(masks[method], masks["label"], spacing=spacing)}
                self.rows.append({**row, **scores, "uncertainty": uncertainty})
                for scores in score_slices(masks[method], masks["label"]):
                    self.slice_rows.append(_slice_row(row, scores, scores["slice"] in labelled))
            name = array_name(case["case"], target, self.target_names)
            self._save_slice(name, masks, entropy, torch.as_tensor(output[Keys.IMAGE]), bool(item.get("acquired")))

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

    def _save_slice(
        self, name: str, masks: dict[str, np.ndarray], entropy: torch.Tensor, image: torch.Tensor, acquired: bool
    ) -> None:
        areas = masks["label" if masks["label"].any() else "refined"].sum(axis=(0, 1))
        k = int(areas.argmax())
        arrays = {key: upright(masks[key][..., k], acquired).astype(np.float32) for key in ("prior", "refined")}
        arrays["entropy"] = upright(entropy[..., k].float().numpy(), acquired)
        arrays["label"] = upright(masks["label"][..., k], acquired).astype(np.uint8)
        arrays["region"] = np.ones_like(arrays["label"])
        picture = upright(picture_of(image[:1, ..., k], stretch=True), acquired)
        toss = coin_toss_nats(len(self.class_of))
        self._save("arrays", name, arrays, image=picture, threshold=0.5, coin_toss_nats=toss)

    def _write(self) -> None:
        self.slice_rows = gather_cases(self.slice_rows, _volume_of)
        super()._write()

    def _write_rows(self) -> None:
        super()._write_rows()
        write_cases(self.slice_rows, self.folder, "slices")
        table = format_table(regions_of_slices(self.slice_rows))
        with write_atomically(self.folder / "slices_table.txt") as temporary:
            temporary.write_text(table + "\n", encoding="utf-8")


def _slice_row(row: dict[str, str], scores: dict[str, Any], is_labelled: bool) -> dict[str, Any]:
    name = f"{row['case']}{SLICE}{scores['slice']:03d}"
    return {**row, "case": name, "region": "slice", **scores, "is_labelled": is_labelled}


def _volume_of(row: dict[str, Any]) -> str:
    return row["case"].rpartition(SLICE)[0]
