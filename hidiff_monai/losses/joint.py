"""What several processes compute of the mini-batch that they hold in shares."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses import DiceLoss
from torch import distributed


class _Sum(torch.autograd.Function):
    """Forward and backward are the same sum: every process's loss depends on what each of them put in."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.apply(gradient)


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The elementwise sum over all processes, through which gradients flow to each; ``values`` in a single one.

    The gradient is that of the *sum* of the processes' losses: averaged over them, that of their mean.
    """
    return _Sum.apply(values) if _have_joined() else values


def _have_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class JointDiceLoss(DiceLoss):
    """MONAI's soft Dice loss of a mini-batch, with the sums of all processes' shares of it: of the joint mini-batch.

    Without several processes it is MONAI's; so it is where each image has its own Dice (``batch=False``).
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The scalar loss; arguments as for MONAI's."""
        if not (self.batch and _have_joined()):
            return super().forward(input, target)
        if self.sigmoid or self.softmax:
            input = input.sigmoid() if self.sigmoid else input.softmax(dim=1)
        axes = [0, *range(2, input.dim())]
        sums = torch.stack([(input * target).sum(axes), input.sum(axes) + target.sum(axes)])
        common, both = sum_over_processes(sums)
        return 1 - ((2 * common + self.smooth_nr) / (both + self.smooth_dr)).mean()
