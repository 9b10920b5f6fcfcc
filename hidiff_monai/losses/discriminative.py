"""L_Disc, the segmentor's objective (HiDiff, Eq. 1)."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional as F

from hidiff_monai.losses.joint import JointDiceLoss


class DiscriminativeLoss(nn.Module):
    """L_Disc = CE + lambda_dice Dice (HiDiff, Eq. 1).

    Args:
        lambda_dice: weight of the soft Dice loss, which is taken over the batch, class by class.
        exclusive: True where every pixel belongs to exactly one of the K >= 2 channels (softmax cross-entropy); False
            where K = 1 or the classes may overlap (binary cross-entropy per channel).
        joint: of several processes, takes the Dice of their joint mini-batch; all of them must call the loss alike.
    """

    def __init__(self, lambda_dice: float = 1.0, exclusive: bool = False, joint: bool = False) -> None:
        super().__init__()
        self.lambda_dice = lambda_dice
        self.exclusive = exclusive
        dice = JointDiceLoss if joint else DiceLoss
        self.dice = dice(sigmoid=not exclusive, softmax=exclusive, batch=True)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The scalar loss.

        Args:
            logits: (B, K, *spatial).
            labels: one-hot or multi-hot masks in {0, 1}, same shape.

        Raises:
            ValueError: when the shapes differ, or ``exclusive`` is asked of one channel.
        """
        if logits.shape != labels.shape:
            raise ValueError(
                f"logits are {tuple(logits.shape)} and labels {tuple(labels.shape)}; expected the same shape: "
                "one channel for each of the network's targets"
            )
        if self.exclusive and logits.shape[1] == 1:
            raise ValueError("exclusive=True with one channel: its softmax is always 1; expected exclusive=False")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = labels.to(logits.dtype)
        if self.exclusive:
            cross_entropy = F.cross_entropy(logits, labels)
        else:
            cross_entropy = F.binary_cross_entropy_with_logits(logits, labels)
        return cross_entropy + self.lambda_dice * self.dice(logits, labels)
