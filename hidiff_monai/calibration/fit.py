"""The temperature that makes a model's probabilities as sure as they are right, found on validation cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.metrics import (
    ProbabilitySums,
    apply_temperature,
    array_name,
    class_log_loss,
    fit_temperature,
    read_calibration,
    require_temperature,
)
from hidiff_monai.report import read_rows

MOST_PIXELS = 2**24  # over all cases; of larger ones, an even share is drawn
SECTION = "validation"
WHY_NOT = {
    "test": "a temperature fitted on test cases makes their figures too good",
    "training": "the network has seen the training cases, and is surer of them than of new ones",
}
WHY_NO_OTHER = "a temperature is fitted on cases that neither trained the network nor judge it"

Pixels = tuple[torch.Tensor, torch.Tensor]


def calibrate_evaluation(evaluation_dir: str | Path, output: str | Path | None = None) -> dict[str, Any]:
    """Fits T of p -> sigmoid(logit(p)/T), or softmax(log(p)/T), to an evaluation's refined probabilities.

    Args:
        evaluation_dir: what the evaluate workflow wrote for validation cases.
        output: the file that is written; temperature.json in that folder where None.

    Returns:
        What was written: `temperature`, for the bundle's inference.json; `n` cases, `pixels`; `ece`, `brier` and `nll`
        `before` and `after`, pooled over all pixels (of exclusive classes, `nll` is that of the true class); where they
        come from.

    Raises:
        ValueError: the evaluation is of other than validation cases, of an older version, a file of it is missing, or
            the fit ends at a bound of the search.
    """
    folder = Path(str(evaluation_dir))
    file = folder / "temperature.json" if output is None else Path(str(output))
    if file.is_dir():
        raise ValueError(f"got --output {file}, a folder; expected a file: name one, such as {file}/temperature.json")
    manifest = _read_manifest(folder)
    calibration = read_calibration(folder)
    if calibration is None:
        raise ValueError(f"{folder} has no calibration.json; expected one of this version: evaluate again")
    exclusive = bool(calibration["exclusive"])
    cases = _read_cases(folder, exclusive)
    applied = require_temperature(manifest.get("temperature", 1.0))
    fitted = _fit(cases, exclusive, folder)
    scaled = [(apply_temperature(probability, fitted, exclusive), truth) for probability, truth in cases]
    result = {
        "temperature": float(f"{applied * fitted:.4g}"),
        "section": manifest["section"],
        "n": len(cases),
        "pixels": sum(len(truth) for _, truth in cases),
        "before": _scores(cases, exclusive),
        "after": _scores(scaled, exclusive),
        "temperature_before": applied,
        "exclusive": exclusive,
        "flip_axes": manifest.get("flip_axes", []),
        "checkpoint_sha256": manifest.get("checkpoint_sha256"),
    }
    require_writable(file.parent)
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def format_calibration(result: dict[str, Any]) -> str:
    """What was found, and what to do with it, as text."""
    temperature = result["temperature"]
    lines = [
        f"temperature {temperature:g}, fitted on {result['n']} {result['section']} cases, {result['pixels']} pixels"
    ]
    lines += [f"{'':8}{'before':>10}{'after':>10}"]
    for score, name in (("ece", "ECE %"), ("brier", "Brier"), ("nll", "NLL")):
        factor = 100 if score == "ece" else 1
        values = [f"{factor * result[key][score]:>10.4f}" for key in ("before", "after")]
        lines.append(f"{name:8}{''.join(values)}")
    lines += [
        "pooled over pixels, and over structures where there are several; NLL in nats a pixel",
        f'set it: "temperature": {temperature:g} in inference.json of the bundle that ships these weights; '
        f"--temperature {temperature:g} for evaluations (evaluate.json scores any weights and stays at 1.0)",
    ]
    if result["flip_axes"]:
        lines.append(f"fitted with flip_axes {result['flip_axes']}: it holds for these only")
    return "\n".join(lines)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an evaluation that may be fitted on."""
    file = folder / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        section = manifest["section"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} does not say which section was evaluated ({type(error).__name__}); expected the folder of an "
            "evaluation: run it with --section validation"
        ) from error
    if section != SECTION:
        raise ValueError(
            f"{file}: section is '{section}'; expected {SECTION} cases, for {WHY_NOT.get(str(section), WHY_NO_OTHER)}: "
            "evaluate with --section validation, calibrate there, then evaluate the test cases with --temperature"
        )
    return manifest


def _fit(cases: Sequence[Pixels], exclusive: bool, folder: Path) -> float:
    try:
        return fit_temperature(cases, exclusive)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _read_cases(folder: Path, exclusive: bool) -> list[Pixels]:
    """Probability (N, K) and truth (N, K), bool, of every case of the evaluation."""
    rows = read_rows(folder)
    names = list(dict.fromkeys(str(row["case"]) for row in rows))
    targets = list(dict.fromkeys(str(row.get("target", "")) for row in rows))
    limit = max(1, MOST_PIXELS // len(names))
    if (folder / "probabilities").is_dir():
        return [_of_volume(folder / "probabilities" / f"{name}.npz", exclusive) for name in names]
    if any(row["region"] == "whole volume" for row in rows):
        raise ValueError(
            f"{folder}: volumes without probabilities/; expected a sample of each: evaluate again, on data whose "
            "labels hold all classes of the network"
        )
    of_case = {name: [array_name(name, target, targets) for target in targets] for name in names}
    return [_of_image([folder / "arrays" / f"{file}.npz" for file in of_case[name]], limit) for name in names]


def _of_volume(file: Path, exclusive: bool) -> Pixels:
    arrays = _load(file, ("refined", "label"))
    refined, label = torch.from_numpy(arrays["refined"]), torch.from_numpy(arrays["label"]).long()
    if not exclusive:  # one class above the background
        return refined, (label == 1)[:, None]
    return refined, torch.nn.functional.one_hot(label, refined.shape[1]).bool()


def _of_image(files: Sequence[Path], limit: int) -> Pixels:
    """Inside the region; of more pixels than the limit, so many drawn without replacement."""
    arrays = [_load(file, ("refined", "label", "region")) for file in files]
    inside = np.flatnonzero(arrays[0]["region"])
    if len(inside) > limit:
        inside = np.random.default_rng(0).choice(inside, limit, replace=False)
    refined, label = (np.stack([item[key].ravel()[inside] for item in arrays], axis=1) for key in ("refined", "label"))
    return torch.from_numpy(refined), torch.from_numpy(label > 0)


def _load(file: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} cannot be read ({error}); expected {', '.join(keys)}: evaluate again") from error


def _scores(cases: Sequence[Pixels], exclusive: bool) -> dict[str, float]:
    """Pooled over pixels and structures, the background of exclusive classes left out; their loss is the one fitted."""
    first = 1 if exclusive else 0
    sums = [ProbabilitySums.of(probability[:, first:], truth[:, first:]) for probability, truth in cases]
    scores = sum(sums[1:], sums[0]).scores()
    return {**scores, "nll": class_log_loss(cases)} if exclusive else scores
