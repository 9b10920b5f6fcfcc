"""The refiner's building blocks, real-valued or binarized.

Every block runs in the order: binarize (TB), convolve, scale and shift (BatchNorm), add the shortcut, activate (TA).
The last three and the next block's TB are pointwise, so that a packed kernel can do them in one pass.
"""

from typing import Optional

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.binarize import BinaryConv2d
from hidiff_monai.networks.time_modules import TimeActivation, TimeBinarization


def match_channels(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Parameter-free shortcut: repeats the channels of (B, C, H, W), or takes the mean of adjacent ones."""
    if channels > x.shape[1]:
        return torch.cat([x] * (channels // x.shape[1]), dim=1)  # keeps channels-last maps as they lie
    if channels < x.shape[1]:
        return x.unflatten(1, [channels, x.shape[1] // channels]).mean(2)
    return x


class ConvBlock(nn.Module):
    """3x3 convolution with a parameter-free shortcut around it; the basic block, and with ``stride=2`` the down block.

    Args:
        in_channels: channels of ``x``; a multiple or a divisor of ``out_channels``.
        out_channels: channels of the result.
        embedding_dim: E of the time embedding.
        binarized: False for the real-valued twin, which has no TB.
        extra_channels: channels of ``extra``, a second input that is convolved beside x but takes no shortcut.
        stride: 2 halves the resolution; the shortcut then takes the mean of 2x2 pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        binarized: bool,
        extra_channels: int = 0,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if max(in_channels, out_channels) % min(in_channels, out_channels):
            raise ValueError(
                f"channels go from {in_channels} to {out_channels}; expected one a multiple of the other: change the "
                "refiner's 'channels'"
            )
        total = in_channels + extra_channels
        self.out_channels = out_channels
        self.stride = stride
        self.binarize = TimeBinarization(total, embedding_dim) if binarized else None
        self.conv: nn.Module
        if binarized:
            self.conv = BinaryConv2d(total, out_channels, 3, stride, padding=1)
        else:
            self.conv = nn.Conv2d(total, out_channels, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activate = TimeActivation(out_channels, embedding_dim)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor, extra: Optional[torch.Tensor] = None) -> torch.Tensor:
        """x (B, in_channels, H, W), extra (B, extra_channels, H, W) -> (B, out_channels, H/stride, W/stride)."""
        shortcut = F.avg_pool2d(x, 2) if self.stride == 2 else x
        if extra is not None:
            x = torch.cat([x, extra], dim=1)
        if self.binarize is not None:
            x = self.binarize(x, embedding)
        return self.activate(self.norm(self.conv(x)) + match_channels(shortcut, self.out_channels), embedding)


class DownLevel(nn.Module):
    """One level of the contracting path: down block (not at full resolution), condition block or basic block, basic.

    The condition block convolves the projected prior feature beside the level's own map.

    Args:
        in_channels: channels of the level above.
        channels: channels of this level.
        embedding_dim: E of the time embedding.
        binarized: False for the real-valued twin.
        stride: 2, or 1 for the level at full resolution.
        has_condition: True where a prior feature of ``channels`` channels enters.
    """

    def __init__(
        self, in_channels: int, channels: int, embedding_dim: int, binarized: bool, stride: int, has_condition: bool
    ) -> None:
        super().__init__()
        self.down = ConvBlock(in_channels, channels, embedding_dim, binarized, stride=2) if stride == 2 else None
        extra_channels = channels if has_condition else 0
        self.condition = ConvBlock(channels, channels, embedding_dim, binarized, extra_channels=extra_channels)
        self.basic = ConvBlock(channels, channels, embedding_dim, binarized)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor, condition: Optional[torch.Tensor]) -> torch.Tensor:
        """x (B, in_channels, H, W), condition (B, channels, H/stride, W/stride) or None."""
        if self.down is not None:
            x = self.down(x, embedding)
        return self.basic(self.condition(x, embedding, condition), embedding)


class UpLevel(nn.Module):
    """One level of the expanding path: nearest x2, convolution beside the skip connection, basic block.

    Args:
        in_channels: channels of the level below.
        channels: channels of this level and of its skip connection.
        embedding_dim: E of the time embedding.
        binarized: False for the real-valued twin.
    """

    def __init__(self, in_channels: int, channels: int, embedding_dim: int, binarized: bool) -> None:
        super().__init__()
        self.merge = ConvBlock(in_channels, channels, embedding_dim, binarized, extra_channels=channels)
        self.basic = ConvBlock(channels, channels, embedding_dim, binarized)

    def forward(self, x: torch.Tensor, skip: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """x (B, in_channels, H/2, W/2), skip (B, channels, H, W) -> (B, channels, H, W)."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.basic(self.merge(x, embedding, skip), embedding)


class ConditionProjection(nn.Module):
    """Projects a prior feature map to a level's channels; real-valued, and computed once per image.

    Args:
        in_channels: channels of the segmentor's feature.
        channels: channels of the refiner's level.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)."""
        return self.norm(self.conv(feature))
