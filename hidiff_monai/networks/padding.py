"""Any image size for networks that need a multiple of their stride."""

import torch
from torch.nn import functional as F


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Replicates the lower and right border of (B, C, H, W) until H and W are multiples of ``multiple``.

    Crop the result back with ``y[..., :H, :W]``.
    """
    rows, columns = -x.shape[2] % multiple, -x.shape[3] % multiple
    if rows == 0 and columns == 0:
        return x
    return F.pad(x, [0, columns, 0, rows], mode="replicate")
