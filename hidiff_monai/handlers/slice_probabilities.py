"""What calibration needs of a volume's probabilities, taken while its slices pass: sums, and a sample of voxels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from hidiff_monai.metrics import ProbabilitySums

MOST_VOXELS = 20_000  # of a volume that are kept for the temperature


class SliceProbabilities:
    """Sums a volume's probabilities over its slices, and keeps an even sample of them.

    Args:
        classes: numbers of the classes that are summed, 1 and up, by name.
        depth: slices of the volume, among which the sample is shared out.
    """

    def __init__(self, classes: Mapping[str, int], depth: int) -> None:
        self.classes = classes
        self.voxels_per_slice = max(1, MOST_VOXELS // depth)
        self.generator = torch.Generator().manual_seed(0)
        self.sums: dict[str, dict[str, ProbabilitySums]] = {}
        self.kept: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, maps: Mapping[str, torch.Tensor], label: torch.Tensor) -> None:
        """Takes slices in.

        Args:
            maps: *prior* and *refined*, (slices, K, X, Y); K = 1 is class 1, more begin with the background.
            label: (slices, X, Y), class numbers.
        """
        num_channels = maps["refined"].shape[1]
        label = label.to(maps["refined"].device)
        for name, number in self.classes.items():
            channel = number if num_channels > 1 else 0
            known = self.sums.setdefault(name, {})
            for method in ("prior", "refined"):
                found = ProbabilitySums.of(maps[method][:, channel], label == number)
                known[method] = known[method] + found if method in known else found
        for probability, classes in zip(maps["refined"], label, strict=True):
            self._keep(probability.flatten(1), classes.flatten())

    def sample(self) -> dict[str, np.ndarray]:
        """*refined*, (N, K) float32, and *label*, (N,) uint8, class numbers: voxels from all slices alike."""
        refined, label = zip(*self.kept, strict=True)
        return {"refined": np.concatenate(refined), "label": np.concatenate(label)}

    def _keep(self, probability: torch.Tensor, classes: torch.Tensor) -> None:
        chosen = torch.randperm(len(classes), generator=self.generator)[: self.voxels_per_slice].to(classes.device)
        values = probability[:, chosen].T.float().cpu().numpy()
        self.kept.append((values, classes[chosen].to(torch.uint8).cpu().numpy()))
