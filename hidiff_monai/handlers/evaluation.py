"""From an evaluator's predictions to figures per case, summary and arrays for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from hidiff_monai.inferers import BernoulliDiffusionInferer, case_uncertainty
from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.metrics import format_table, score_case, write_cases, write_summary

WHOLE, FIELD_OF_VIEW = "whole image", "field of view"


class EvaluationWriter:
    """Scores prior and refined mask of every case, whole and inside its *region*, and writes everything down.

    Expects decollated output items with *refined*, *prior*, *variance*, *entropy* and *label*, (K, H, W) each, and
    batch items with *id* and, where there are any, *region* (1, H, W) and *picture* (C, H, W) in 0 ... 255.

    Args:
        folder: receives cases.csv, cases.json, summary.json, table.txt, arrays/<case>.npz, trajectory/<case>.npz.
        target_names: a name for each of the K channels.
        threshold: probability above which a pixel is foreground.
        trajectory_cases: the first so many cases have their reverse chain written too.
        inferer: draws that chain.
    """

    def __init__(
        self,
        folder: str | Path,
        target_names: list[str],
        threshold: float = 0.5,
        trajectory_cases: int = 0,
        inferer: BernoulliDiffusionInferer | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.target_names = target_names
        self.threshold = threshold
        self.trajectory_cases = trajectory_cases
        self.inferer = inferer or BernoulliDiffusionInferer()
        self.rows: list[dict[str, Any]] = []
        self._trajectories_left = trajectory_cases

    def attach(self, engine: Engine) -> None:
        """Registers the handler with an evaluator."""
        require_writable(self.folder)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self) -> None:
        self.rows.clear()
        self._trajectories_left = self.trajectory_cases

    def _score(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            case = str(item["id"])
            arrays = {key: _array(output[key]) for key in ("label", "refined", "prior", "variance", "entropy")}
            region = _array(item["region"])[0] > 0.5 if "region" in item else None
            picture = _array(item["picture"]).transpose(1, 2, 0).round().astype(np.uint8)
            for channel, target in enumerate(self.target_names):
                maps = {key: value[channel] for key, value in arrays.items()}
                self._score_target(case, target, maps, region)
                name = case if len(self.target_names) == 1 else f"{case}_{target}"
                self._save("arrays", name, _for_report(maps, region), image=picture, threshold=self.threshold)
                if self._trajectories_left > 0:
                    self._save_trajectory(engine, name, channel, output[Keys.IMAGE], maps["label"], picture)
                    self._trajectories_left -= 1

    def _score_target(
        self, case: str, target: str, maps: dict[str, np.ndarray], region: np.ndarray | None
    ) -> None:
        entropy, refined = torch.from_numpy(maps["entropy"]), torch.from_numpy(maps["refined"])
        uncertainty = case_uncertainty(entropy, refined, None if region is None else torch.from_numpy(region))
        for region_name, inside in ((WHOLE, None), (FIELD_OF_VIEW, region)):
            if region_name == FIELD_OF_VIEW and inside is None:
                continue
            for method in ("prior", "refined"):
                scores = score_case(maps[method] > self.threshold, maps["label"] > 0.5, region=inside)
                row = {"case": case, "method": method, "region": region_name, "target": target}
                self.rows.append({**row, **scores, "uncertainty": uncertainty})

    def _save_trajectory(
        self, engine: Engine, name: str, channel: int, image: torch.Tensor, label: np.ndarray, picture: np.ndarray
    ) -> None:
        network = engine.network  # type: ignore[attr-defined]
        _, trajectory = self.inferer.sample(image[None].to(engine.state.device), network)
        steps = {
            "states": _array(trajectory.states)[:, 0, channel].astype(np.uint8),
            "estimates": _array(trajectory.estimates)[:, 0, channel],
        }
        final = (steps["estimates"][-1:] > self.threshold).astype(np.uint8)
        steps["states"] = np.concatenate([steps["states"], final])
        self._save(
            "trajectory", name, steps, image=picture, label=label.astype(np.uint8), timesteps=trajectory.timesteps
        )

    def _save(self, folder: str, name: str, arrays: dict[str, np.ndarray], **others: Any) -> None:
        with write_atomically(self.folder / folder / f"{name}.npz") as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays, **others)

    def _write(self) -> None:
        write_cases(self.rows, self.folder)
        write_summary(self.rows, self.folder)
        print(format_table(self.rows))


def _for_report(maps: dict[str, np.ndarray], region: np.ndarray | None) -> dict[str, np.ndarray]:
    label = maps["label"].astype(np.uint8)
    inside = np.ones_like(label) if region is None else region.astype(np.uint8)
    return {**maps, "label": label, "region": inside}


def _array(tensor: torch.Tensor) -> np.ndarray:
    return torch.as_tensor(tensor).detach().cpu().numpy()
