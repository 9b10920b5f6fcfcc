"""Any image size for networks that need a multiple of their stride."""

from typing import List

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


def fit_features(
    features: List[torch.Tensor], strides: List[int], indices: List[int], height: int, width: int, divisor: int
) -> List[torch.Tensor]:
    """A segmentor's maps at the size that the padded image gives them: replicated or cropped below and on the right.

    Args:
        features: one map (B, C, h, w) per stride; its size is that of the image, divided and rounded down or up, or
            that of the padded image, also where the segmentor pads to more.
        strides: of the maps.
        indices: of the maps that are wanted.
        height: H of the image.
        width: W of the image.
        divisor: the image is padded to multiples of it, H' and W'.

    Returns:
        The maps that are wanted, (B, C, H'/stride, W'/stride).

    Raises:
        ValueError: when a map is missing, or a wanted one has none of these sizes.
    """
    if len(features) != len(strides):
        raise ValueError(
            f"the segmentor gave {len(features)} feature maps; expected {len(strides)}, at strides {strides}"
        )
    padded_height, padded_width = height + -height % divisor, width + -width % divisor
    fitted: List[torch.Tensor] = []
    for i in indices:
        feature, stride = features[i], strides[i]
        rows, columns = feature.shape[2], feature.shape[3]
        most_rows, most_columns = padded_height, padded_width  # or what the other maps show that the segmentor pads to
        for j in range(len(features)):
            if j != i:
                most_rows = max(most_rows, features[j].shape[2] * strides[j])
                most_columns = max(most_columns, features[j].shape[3] * strides[j])
        if not (height // stride <= rows <= most_rows // stride + 1):
            raise ValueError(f"a feature map of stride {stride} has {rows} rows for an image of {height}")
        if not (width // stride <= columns <= most_columns // stride + 1):
            raise ValueError(f"a feature map of stride {stride} has {columns} columns for an image of {width}")
        fitted.append(_fit(feature, padded_height // stride, padded_width // stride))
    return fitted


def _fit(feature: torch.Tensor, height: int, width: int) -> torch.Tensor:
    rows, columns = height - feature.shape[2], width - feature.shape[3]
    feature = feature[:, :, :height, :width]
    if rows <= 0 and columns <= 0:
        return feature  # a padding of nothing is a copy all the same
    return F.pad(feature, [0, max(columns, 0), 0, max(rows, 0)], mode="replicate")
