"""A U-Net of MONAI's blocks as segmentor."""

from typing import List, Sequence

import torch
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.padding import pad_to_multiple
from hidiff_monai.segmentors.base import SegmentorOutput


class UNetSegmentor(nn.Module):
    """U-Net (Ronneberger et al., 2015) from the blocks of MONAI's ``BasicUNet``, with its decoder's features exposed.

    Args:
        in_channels: channels of the image.
        num_targets: K, channels of the logits.
        channels: channels of the levels, finest first; six levels give features at strides 4, 8, 16 and 32.
        finest_feature_stride: stride of the finest feature handed on, a power of 2; 4 as in the paper. At 1 the refiner
            sees the very features the logits are read from, and learns from far fewer mini-batches.
        downscale_factor: r, a power of 2: blocks of r x r pixels enter as channels, and the logits of a block's pixels
            are read from one position (Shi et al., 2016). At 2 a training step takes about half the time, and the
            network sees twice as far; the finest feature has stride r. 1 works on the pixels themselves.
        norm: MONAI's name of the normalization.
        dropout: dropout rate inside the blocks.

    Attributes:
        feature_channels: channels of the features, finest first.
        feature_strides: their strides.
    """

    def __init__(
        self,
        in_channels: int,
        num_targets: int,
        channels: Sequence[int] = (32, 32, 64, 128, 256, 512),
        finest_feature_stride: int = 4,
        norm: str = "batch",
        dropout: float = 0.0,
        downscale_factor: int = 1,
    ) -> None:
        super().__init__()
        if len(channels) < 3:
            raise ValueError(f"channels is {list(channels)}; expected at least three levels, to have features at 1/4")
        if downscale_factor < 1 or downscale_factor & (downscale_factor - 1):
            raise ValueError(f"downscale_factor is {downscale_factor}; expected a power of 2, from 1")
        act = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})
        self.downscale_factor = downscale_factor
        strides = [downscale_factor * 2**level for level in range(len(channels))]
        self.divisor = strides[-1]
        if finest_feature_stride not in strides:
            raise ValueError(f"finest_feature_stride is {finest_feature_stride}; expected one of {strides}")
        self.finest_level = strides.index(finest_feature_stride)
        self.feature_channels: List[int] = list(channels[self.finest_level :])
        self.feature_strides: List[int] = strides[self.finest_level :]
        pixels = downscale_factor**2
        self.stem = TwoConv(2, in_channels * pixels, channels[0], act, norm, bias=True, dropout=dropout)
        self.down = nn.ModuleList(
            Down(2, above, below, act, norm, bias=True, dropout=dropout) for above, below in zip(channels, channels[1:])
        )
        self.up = nn.ModuleList(
            UpCat(2, below, above, above, act, norm, bias=True, dropout=dropout, halves=False, is_pad=False)
            for above, below in reversed(list(zip(channels, channels[1:])))
        )
        self.head = nn.Conv2d(channels[0], num_targets * pixels, 1)

    def forward(self, image: torch.Tensor) -> SegmentorOutput:
        """Image (B, in_channels, H, W) of any size -> logits (B, K, H, W) and features of the padded image."""
        x = pad_to_multiple(image, self.divisor)
        if self.downscale_factor > 1:
            x = F.pixel_unshuffle(x, self.downscale_factor)
        x = self.stem(x)
        skips: List[torch.Tensor] = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        features: List[torch.Tensor] = [x]
        last = len(self.up) - 1
        for i, up in enumerate(self.up):
            x = up(x, skips[last - i])
            if last - i >= self.finest_level:
                features.append(x)
        logits = self.head(x)
        if self.downscale_factor > 1:
            logits = F.pixel_shuffle(logits, self.downscale_factor)
        features.reverse()
        return SegmentorOutput(logits[:, :, : image.shape[2], : image.shape[3]], features)
