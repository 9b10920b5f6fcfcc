"""An inferer that knows the answer by the look of a slice, whichever way the slice is turned or flipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from hidiff_monai.inferers import BernoulliDiffusionInferer


def orientations(plane: np.ndarray) -> Iterator[np.ndarray]:
    """The eight ways to turn and flip a plane."""
    for flipped in (plane, plane[:, ::-1]):
        for turns in range(4):
            yield np.rot90(flipped, turns)


class Oracle(BernoulliDiffusionInferer):
    """Finds each slice among those it was told, in any of its eight orientations, and returns its mask alike.

    Nothing of the package's geometry is used: if a mask ends up elsewhere than it was told, the way in or out is wrong.

    Args:
        planes: the slices, as stored, and their masks of class numbers.
        prepare: what the preprocessing does to the values of a slice.
        num_classes: with the background.
    """

    def __init__(
        self,
        planes: list[tuple[np.ndarray, np.ndarray]],
        prepare: Callable[[np.ndarray], np.ndarray],
        num_classes: int,
    ) -> None:
        super().__init__(outputs=("refined", "prior", "entropy"))
        self.num_classes = num_classes
        self.masks = {}
        for plane, mask in planes:
            both = zip(orientations(prepare(plane)), orientations(mask), strict=True)
            self.masks.update({key(turned): answer for turned, answer in both})

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        masks = np.stack([self.masks[key(image[0].numpy())] for image in inputs]).astype(np.int64)
        refined = torch.nn.functional.one_hot(torch.from_numpy(masks), self.num_classes).movedim(-1, 1).float()
        return {"refined": refined, "prior": refined, "entropy": torch.zeros_like(refined)}


def key(plane: np.ndarray) -> bytes:
    """Shape and values, rounded."""
    return repr(plane.shape).encode() + np.round(plane, 4).astype(np.float32).tobytes()
