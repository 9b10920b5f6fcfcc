"""Freezing a network for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from hidiff_monai.segmentors.tapping import evaluating


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, no parameter and no buffer of ``network`` changes and no gradient is stored for it.

    BatchNorm uses its running statistics and dropout is off; gradients still flow through to the network's inputs.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        with evaluating(network):
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
