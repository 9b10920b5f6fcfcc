"""What Dice is worth where a class is absent: three conventions, because published figures follow all of them.

P the prediction, G the label of one case and class:

| G     | P     | undefined | both empty 1 | TransUNet |
|-------|-------|-----------|--------------|-----------|
| empty | empty | NaN       | 1            | 0         |
| empty | some  | 0         | 0            | 1         |
| some  | empty | 0         | 0            | 0         |

Everywhere else Dice is Dice. TransUNet's evaluation scores a false alarm on an absent organ as perfect and its correct
absence as 0; many papers on Synapse inherit it. One absent organ among 96 (12 cases × 8 organs) is worth 1.04 points.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .overlap import ConfusionCounts, dice


def dice_undefined(counts: ConfusionCounts) -> float:
    """Dice in [0, 1]; NaN when both masks are empty: count such cases, do not score them."""
    return dice(counts) if counts.tp + counts.fp + counts.fn else math.nan


def dice_transunet(counts: ConfusionCounts) -> float:
    """Dice in [0, 1]; 0 when both masks are empty, 1 when only the label is, as TransUNet's evaluation has it."""
    if counts.tp + counts.fn:
        return dice(counts)
    return 1.0 if counts.fp else 0.0


DICE_CONVENTIONS: dict[str, Callable[[ConfusionCounts], float]] = {
    "dice": dice,
    "dice_undefined": dice_undefined,
    "dice_transunet": dice_transunet,
}
