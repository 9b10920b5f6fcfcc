"""What a segmentor is to the rest of the package."""

from typing import List, NamedTuple

import torch


class SegmentorOutput(NamedTuple):
    """A segmentor's answer.

    Attributes:
        logits: (B, K, H, W), before sigmoid or softmax.
        features: feature maps, finest first, each (B, C_i, H/stride_i, W/stride_i).
    """

    logits: torch.Tensor
    features: List[torch.Tensor]
