"""An artefact run in a fresh process without this package, beside the network it was made of."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hidiff_monai.export import runner
from hidiff_monai.export.inputs import Trial
from hidiff_monai.networks import HiDiff

CLOSE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """How far an artefact and its network agree on some batches.

    Attributes:
        shape: (N, C, H, W), N of all batches together.
        max_difference: of the probabilities.
        close_share: of the probabilities that differ by no more than CLOSE, in [0, 1].
        mask_share: of the pixels that are foreground, or have the same most probable class, in both, in [0, 1].
    """

    shape: tuple[int, ...]
    max_difference: float
    close_share: float
    mask_share: float

    def format(self) -> str:
        """One line."""
        return (
            f"{' x '.join(map(str, self.shape))}: max |difference| {self.max_difference:.2g} "
            f"({100 * self.close_share:.4f} % within {CLOSE:g}), "
            f"{100 * self.mask_share:.4f} % of mask pixels agree"
        )


def measure_agreement(
    artefact: Path, network: HiDiff, trial: Trial, threshold: float, library: Path | None = None
) -> list[Agreement]:
    """Runs an artefact in a process that can import neither this package nor MONAI.

    Args:
        artefact: the file.
        network: as it was trained, in evaluation mode.
        trial: the batches.
        threshold: above which a pixel is foreground, where classes do not exclude each other.
        library: with the operators of a packed refiner.

    Returns:
        One for the image, one for the batch of another size.

    Raises:
        ValueError: if the process fails; with the last lines of what it said.
    """
    found = run_artefact(artefact, trial.batches, library)
    with torch.no_grad():
        expected = [network(batch).numpy() for batch in trial.batches]
    parts = (slice(0, -1), slice(-1, None))
    return [_compare(expected[part], found[part], network.exclusive, threshold) for part in parts]


def run_artefact(artefact: Path, batches: list[torch.Tensor], library: Path | None = None) -> list[np.ndarray]:
    """The probabilities that an artefact gives in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        names = [f"batch{number:04}" for number in range(len(batches))]
        np.savez(inputs, **{name: batch.numpy() for name, batch in zip(names, batches, strict=True)})  # type: ignore[arg-type]
        arguments = [artefact.absolute(), inputs, outputs, *([library] if library else [])]
        line = [sys.executable, "-I", str(Path(runner.__file__)), *map(str, arguments)]
        environment = {**os.environ, runner.SEARCH_PATH: os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(line, cwd=folder, text=True, capture_output=True, env=environment)
        if done.returncode != 0:
            said = " / ".join(done.stderr.strip().splitlines()[-3:])
            raise ValueError(f"{artefact}: does not run in a process of its own ({said}); expected it to: report this")
        with np.load(outputs) as results:
            return [results[name] for name in names]


def _compare(expected: list[np.ndarray], found: list[np.ndarray], is_exclusive: bool, threshold: float) -> Agreement:
    """Batches of one size against batches of one size."""
    one, other = np.concatenate(expected), np.concatenate(found)
    masks = (values.argmax(axis=1) if is_exclusive else values > threshold for values in (one, other))
    differences = np.abs(one - other)
    shares = (float(same.mean()) for same in (differences <= CLOSE, np.equal(*masks)))
    return Agreement(one.shape, float(differences.max()), *shares)
