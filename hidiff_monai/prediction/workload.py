"""How much of an image a network is given: windows overlap, small slices are padded, large pictures are resized."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai.inferers import Inferer, SlidingWindowInferer

from hidiff_monai.inferers import BernoulliDiffusionInferer, PadInferer, ResizeInferer, VolumeInferer


def network_megapixels(inferer: Inferer, shape: Sequence[int]) -> float:
    """Millions of pixels that pass through the network for one case, to which its time is proportional.

    Args:
        inferer: of a bundle.
        shape: (H, W) of a photograph, (X, Y, D) of a volume that is predicted slice by slice.
    """
    slices = 1 if len(shape) == 2 else shape[2]
    inner = inferer.inferer if isinstance(inferer, VolumeInferer) else inferer
    window = inner.window if isinstance(inner, BernoulliDiffusionInferer) else None
    return slices * math.prod(_seen(window, shape[:2])) / 1e6


def _seen(window: Inferer | None, size: Sequence[int]) -> list[int]:
    """Edges of the picture that is seen: of windows, the edges of all of them laid side by side."""
    if isinstance(window, ResizeInferer):
        return list(window.image_size)
    if isinstance(window, PadInferer):
        return [max(least, edge) for least, edge in zip(window.image_size, size, strict=True)]
    if isinstance(window, SlidingWindowInferer):
        edges = _pair(window.roi_size)
        overlaps = _pair(window.overlap)
        return [
            edge
            if size[i] <= edge
            else edge * (1 + math.ceil((size[i] - edge) / max(int(edge * (1 - overlaps[i])), 1)))
            for i, edge in enumerate(int(edge) for edge in edges)
        ]
    return list(size)


def _pair(value: Sequence[float] | float) -> Sequence[float]:
    return (value, value) if isinstance(value, (int, float)) else value
