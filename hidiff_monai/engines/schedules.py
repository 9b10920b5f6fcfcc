"""Learning-rate schedules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


class PolynomialDecay:
    """Factor of the learning rate for ``LambdaLR``: (1 - progress) ** power, begun anew at every boundary.

    Before the first boundary the factor is 1, from the last on it is 0.

    Args:
        boundaries: rising epochs; two phases [0, 30, 100] decay over 0-30 and again over 30-100.
        power: exponent, the usual 0.9 by default.
    """

    # LambdaLR saves and restores the __dict__ of its callable. Left empty, so that a training resumed with more epochs
    # follows its configuration, not the schedule it began with.
    __slots__ = ("__dict__", "boundaries", "power")

    def __init__(self, boundaries: Sequence[int], power: float = 0.9) -> None:
        if len(boundaries) < 2 or list(boundaries) != sorted(boundaries):
            raise ValueError(f"boundaries is {list(boundaries)}; expected two or more rising epochs")
        self.boundaries = list(boundaries)
        self.power = power

    def __call__(self, epoch: int) -> float:
        """The factor in (0-based) ``epoch``."""
        if epoch < self.boundaries[0]:
            return 1.0
        for start, stop in pairwise(self.boundaries):
            if start <= epoch < stop:
                return (1 - (epoch - start) / (stop - start)) ** self.power
        return 0.0
