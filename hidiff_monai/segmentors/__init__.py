"""Segmentors: the networks whose masks are refined."""

from hidiff_monai.segmentors.adapter import SegmentorAdapter
from hidiff_monai.segmentors.base import SegmentorOutput
from hidiff_monai.segmentors.unet import UNetSegmentor

__all__ = ["SegmentorAdapter", "SegmentorOutput", "UNetSegmentor"]
