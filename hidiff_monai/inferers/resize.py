"""Inference at the size a network was trained at, results at the size of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn import functional as F


class ResizeInferer(Inferer):
    """Brings images to one size, calls the network, and brings its maps back to the size of the image.

    Goes where a ``SlidingWindowInferer`` would. Images shrink by averaging over areas, as under MONAI's
    ``Resized(mode="area")``; maps grow by bilinear interpolation, so that a mask is cut out of smooth probabilities.

    Args:
        image_size: (H, W) at which the network works.
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        super().__init__()
        self.image_size = list(image_size)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Images (B, C, H, W) -> the network's tensor, or dictionary of tensors, (B, K, H, W) each."""
        results = network(resize_by_area(inputs, self.image_size), *args, **kwargs)
        size = inputs.shape[2:]
        if isinstance(results, torch.Tensor):
            return _enlarge(results, size)
        return {name: _enlarge(value, size) for name, value in results.items()}


def resize_by_area(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, *size), each pixel the mean of its area, on the CPU where Apple's MPS cannot."""
    source = images.cpu() if images.device.type == "mps" else images
    return F.interpolate(source, list(size), mode="area").to(images.device)


def _enlarge(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
