"""From an evaluator's predictions to figures per case, summary and arrays for the report."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.networks.utils import eval_mode
from monai.utils.enums import CommonKeys as Keys
from torch.nn import functional as F

from hidiff_monai.engines.distributed import gather_cases, is_first, positions
from hidiff_monai.inferers import (
    BernoulliDiffusionInferer,
    ResizeInferer,
    Trajectory,
    case_uncertainty,
    resize_by_area,
)
from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.io.images import brighten
from hidiff_monai.metrics import (
    BACKGROUND,
    CaseCalibration,
    ProbabilitySums,
    array_name,
    class_masks,
    error_retention,
    format_table,
    score_case,
    temper_threshold,
    write_calibration,
    write_cases,
    write_summary,
)
from hidiff_monai.networks import HiDiff

WHOLE, FIELD_OF_VIEW = "whole image", "field of view"
LARGEST_CHAIN = 1024  # pixels of a side


class EvaluationWriter:
    """Scores prior and refined mask of every case, whole and inside its *region*, and writes everything down.

    Expects decollated output items with *refined*, *prior*, *variance*, *entropy* and *label*, (K, H, W) each, and
    batch items with *id* and, where there are any, *patient*, *region* (1, H, W) and *picture* (C, H, W) in 0 ... 255.
    Of several processes, among which the cases are dealt, each saves its cases' arrays and the first one all rows.

    Args:
        folder: receives cases.csv, cases.json, summary.json, table.txt, calibration.json, arrays/<case>.npz,
            trajectory/<case>.npz.
        target_names: a name for each of the K channels; of exclusive classes the background's first.
        threshold: probability above which a pixel is foreground, before any temperature; of a network with exclusive
            classes each pixel is the likeliest's instead.
        temperature: that the refined probability was scaled with; it moves no mask.
        trajectory_cases: the first so many cases have their reverse chain written too; of large images the middle's.
        inferer: draws that chain.
    """

    def __init__(
        self,
        folder: str | Path,
        target_names: list[str],
        threshold: float = 0.5,
        temperature: float = 1.0,
        trajectory_cases: int = 0,
        inferer: BernoulliDiffusionInferer | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.target_names = target_names
        self.thresholds = {"prior": threshold, "refined": temper_threshold(threshold, temperature)}
        self.trajectory_cases = trajectory_cases
        self.inferer = inferer or BernoulliDiffusionInferer()
        self.rows: list[dict[str, Any]] = []
        self.calibration: list[CaseCalibration] = []
        self._is_exclusive = False
        self._trajectories_left = trajectory_cases

    def attach(self, engine: SupervisedEvaluator) -> None:
        """Registers the handler with an evaluator."""
        require_writable(self.folder)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: SupervisedEvaluator) -> None:
        self.rows.clear()
        self.calibration.clear()
        self._is_exclusive = getattr(getattr(engine, "network", None), "exclusive", False)
        self._trajectories_left = len(positions(self.trajectory_cases))

    def _score(self, engine: SupervisedEvaluator) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self._score_item(engine, item, output)

    def _score_item(self, engine: SupervisedEvaluator, item: dict[str, Any], output: dict[str, torch.Tensor]) -> None:
        case = identity(item)
        arrays = {key: _array(output[key]) for key in ("label", "refined", "prior", "variance", "entropy")}
        self._require_targets(arrays)
        for method, threshold in self.thresholds.items():
            arrays[f"{method}_mask"] = class_masks(arrays[method], threshold, self._is_exclusive).numpy()
        region = _array(item["region"])[0] > 0.5 if "region" in item else None
        picture = picture_of(item.get("picture", output[Keys.IMAGE]), stretch="picture" not in item)
        shown = _part_shown(engine, picture.shape[:2])
        trajectory = self._trajectory(engine, output[Keys.IMAGE][(slice(None), *shown)])
        for channel, target in enumerate(self.target_names):
            maps = {key: value[channel] for key, value in arrays.items()}
            self._score_target(case, target, maps, region)
            self.calibration.append(self._calibration(case["case"], target, maps, region))
            name = array_name(case["case"], target, self.target_names)
            thresholds = np.array([*self.thresholds.values()])
            self._save("arrays", name, _for_report(maps, region), image=picture, threshold=thresholds)
            if trajectory is not None:
                self._save_trajectory(name, trajectory, channel, picture[shown], maps["label"][shown] > 0.5)

    def _require_targets(self, arrays: dict[str, np.ndarray]) -> None:
        channels = {key: len(arrays[key]) for key in ("refined", "label")}
        if set(channels.values()) != {len(self.target_names)}:
            raise ValueError(
                f"target_names are {self.target_names}, while the network has {channels['refined']} channels and the "
                f"labels {channels['label']}; expected a name for each channel, of exclusive classes the background's "
                "first"
            )
        if self._is_exclusive and self.target_names[0] != BACKGROUND:
            raise ValueError(
                f"target_names are {self.target_names}, of classes that exclude each other; expected '{BACKGROUND}' "
                "first, which no average takes in: name the first channel so"
            )

    def _score_target(
        self, case: dict[str, str], target: str, maps: dict[str, np.ndarray], region: np.ndarray | None
    ) -> None:
        entropy = torch.from_numpy(maps["entropy"])
        refined = torch.from_numpy(maps["refined_mask"]).float()
        uncertainty = case_uncertainty(entropy, refined, None if region is None else torch.from_numpy(region))
        for region_name, inside in ((WHOLE, None), (FIELD_OF_VIEW, region)):
            if region_name == FIELD_OF_VIEW and inside is None:
                continue
            for method in ("prior", "refined"):
                scores = score_case(maps[f"{method}_mask"], maps["label"] > 0.5, region=inside)
                row = {**case, "method": method, "region": region_name, "target": target}
                self.rows.append({**row, **scores, "uncertainty": uncertainty})

    def _calibration(
        self, case: str, target: str, maps: dict[str, np.ndarray], region: np.ndarray | None
    ) -> CaseCalibration:
        inside = np.ones_like(maps["label"], bool) if region is None else region
        truth = maps["label"] > 0.5
        pixels = {method: torch.from_numpy(maps[method][inside]) for method in ("prior", "refined")}
        sums = {
            method: ProbabilitySums.of(values, torch.from_numpy(truth[inside])) for method, values in pixels.items()
        }
        retention = error_retention(maps["entropy"], maps["refined_mask"], truth, inside)
        return CaseCalibration(case, target, WHOLE if region is None else FIELD_OF_VIEW, sums, retention)

    def _trajectory(self, engine: SupervisedEvaluator, image: torch.Tensor) -> Trajectory | None:
        if self._trajectories_left == 0:
            return None
        self._trajectories_left -= 1
        network, window = cast(HiDiff, engine.network), _window_of(engine)
        size = window.image_size if isinstance(window, ResizeInferer) else list(image.shape[1:])
        with eval_mode(network):  # the evaluator's own ended with its forward pass
            resized = resize_by_area(image[None].to(engine.state.device), size)
            return self.inferer.sample(resized, network)[1]

    def _save_trajectory(
        self, name: str, trajectory: Trajectory, channel: int, image: np.ndarray, label: np.ndarray
    ) -> None:
        size = image.shape[:2]  # chains are drawn at the size at which the network works
        states, estimates = (
            _array(F.interpolate(maps[:, 0, channel : channel + 1].float(), size, mode="nearest-exact")[:, 0])
            for maps in (trajectory.states, trajectory.estimates)
        )
        states = states.astype(np.uint8)
        states = np.concatenate([states, estimates[-1:] > self.thresholds["prior"]])
        arrays = {"states": states, "estimates": estimates, "label": label.astype(np.uint8)}
        self._save("trajectory", name, arrays, image=image, timesteps=trajectory.timesteps)

    def _save(self, folder: str, name: str, arrays: dict[str, np.ndarray], **others: Any) -> None:
        with write_atomically(self.folder / folder / f"{name}.npz") as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays, **others)  # type: ignore[arg-type]

    def _write(self) -> None:
        self.rows = gather_cases(self.rows, itemgetter("case"))
        self.calibration = gather_cases(self.calibration, attrgetter("case"))
        if is_first():
            self._write_rows()

    def _write_rows(self) -> None:
        write_cases(self.rows, self.folder)
        write_summary(self.rows, self.folder)
        if self.calibration:
            write_calibration(self.calibration, self.rows, self.folder, self._is_exclusive)
        print(format_table(self.rows))


def identity(item: dict[str, Any]) -> dict[str, str]:
    """A row's "case" and "patient" (or video sequence; where both are unknown, the case) of a batch item."""
    known = (item[key] for key in ("patient", "sequence", "id") if key in item)
    return {"case": str(item["id"]), "patient": str(next(known))}


def _window_of(engine: SupervisedEvaluator) -> Any:
    return getattr(getattr(engine, "inferer", None), "window", None)


def _part_shown(engine: SupervisedEvaluator, size: Sequence[int]) -> tuple[slice, ...]:
    """What of an image has its chain drawn: all where the network sees a smaller copy, else at most its middle.

    The chain runs in one piece, windows or not, in the trained form: 2 to 3 GiB a megapixel.
    """
    if isinstance(_window_of(engine), ResizeInferer):
        return tuple(slice(0, side) for side in size)
    firsts = [max(side - LARGEST_CHAIN, 0) // 2 for side in size]
    return tuple(slice(first, first + LARGEST_CHAIN) for first in firsts)


def _for_report(maps: dict[str, np.ndarray], region: np.ndarray | None) -> dict[str, np.ndarray]:
    label = maps["label"].astype(np.uint8)
    inside = np.ones_like(label) if region is None else region.astype(np.uint8)
    return {**maps, "label": label, "region": inside}


def picture_of(image: torch.Tensor, stretch: bool) -> np.ndarray:
    """An image (C, H, W) as (H, W, 3) uint8: its first three channels, or the first one in grey.

    Args:
        image: grey values in 0 ... 255, or with ``stretch`` any.
        stretch: maps the image's smallest and largest value to 0 and 255; else only very dark ones are brightened.
    """
    values = _array(image)
    if stretch:
        values = 255 * (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    channels = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
    return brighten(channels.transpose(1, 2, 0))


def _array(tensor: torch.Tensor) -> np.ndarray:
    return torch.as_tensor(tensor).detach().cpu().float().numpy()
