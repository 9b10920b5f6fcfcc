"""From probabilities to the masks that are scored."""

from __future__ import annotations

import torch
from monai.config import NdarrayOrTensor
from torch.nn import functional as F


def class_masks(probability: NdarrayOrTensor, threshold: float, exclusive: bool) -> torch.Tensor:
    """A mask a channel, as predictions are delivered: above the threshold, or of exclusive classes the likeliest.

    Args:
        probability: (K, *spatial), in [0, 1].
        threshold: without effect on exclusive classes.
        exclusive: whether a pixel has exactly one of the K classes.

    Returns:
        (K, *spatial), bool.
    """
    values = torch.as_tensor(probability)
    if not exclusive:
        return values > threshold
    return F.one_hot(values.argmax(dim=0), len(values)).movedim(-1, 0).bool()
