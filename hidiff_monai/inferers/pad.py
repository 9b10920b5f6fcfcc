"""Inference at no less than the size a network was trained at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn import functional as F


class PadInferer(Inferer):
    """Pads images that are smaller than the training's crops, calls the network, and cuts its maps back.

    Goes where a ``SlidingWindowInferer`` would. A network that was trained on 64 x 64 and is given a slice of 32 x 48
    sees a border where it never saw one, and paints along it. Both sides are padded by repeating the border, as under
    MONAI's ``SpatialPadd(mode="edge")`` in the training.

    Args:
        image_size: (H, W), the least size at which the network works.
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        super().__init__()
        self.image_size = list(image_size)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Images (B, C, H, W) -> the network's tensor, or dictionary of tensors, (B, K, H, W) each."""
        height, width = inputs.shape[2:]
        missing = [max(0, least - size) for least, size in zip(self.image_size, (height, width), strict=True)]
        top, left = (number // 2 for number in missing)
        padding = [left, missing[1] - left, top, missing[0] - top]
        results = network(F.pad(inputs, padding, mode="replicate"), *args, **kwargs)
        place = (..., slice(top, top + height), slice(left, left + width))
        if isinstance(results, torch.Tensor):
            return results[place]
        return {name: values[place] for name, values in results.items()}
