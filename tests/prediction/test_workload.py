"""Pixels that a network is given, against a network that counts them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.inferers import Inferer, SlidingWindowInferer

from hidiff_monai.inferers import BernoulliDiffusionInferer, PadInferer, ResizeInferer, VolumeInferer
from hidiff_monai.prediction.workload import network_megapixels

OUTPUTS = ("refined", "prior", "entropy")


@pytest.mark.parametrize("size", [(20, 24), (32, 32), (33, 70), (100, 47)])
@pytest.mark.parametrize(
    "window",
    [
        None,
        PadInferer([32, 32]),
        ResizeInferer([32, 48]),
        SlidingWindowInferer((32, 32), 4, overlap=0.25),
        SlidingWindowInferer((32, 40), 2, overlap=(0.5, 0.1)),
    ],
)
def test_as_many_pixels_as_the_network_is_given(window: Inferer | None, size: tuple[int, int]) -> None:
    seen = 0

    def count(images: torch.Tensor, *rest: Any) -> torch.Tensor:
        nonlocal seen
        seen += images.numel()
        return images

    image = torch.zeros(1, 1, *size)
    if window is None:
        count(image)
    else:
        window(image, count)
    inferer = BernoulliDiffusionInferer(outputs=OUTPUTS, window=window)
    assert network_megapixels(inferer, size) * 1e6 == pytest.approx(seen)
    volume = VolumeInferer(inferer, batch_size=2)
    assert network_megapixels(volume, (*size, 5)) * 1e6 == pytest.approx(5 * seen)
