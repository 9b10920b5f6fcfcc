"""Inference: from an image to a refined mask with its uncertainty."""

from hidiff_monai.inferers.acceleration import Accelerated, accelerate
from hidiff_monai.inferers.bernoulli import OUTPUTS, BernoulliDiffusionInferer, Trajectory, case_uncertainty
from hidiff_monai.inferers.pad import PadInferer
from hidiff_monai.inferers.resize import ResizeInferer, resize_by_area
from hidiff_monai.inferers.volume import VolumeInferer

__all__ = [
    "OUTPUTS",
    "Accelerated",
    "BernoulliDiffusionInferer",
    "PadInferer",
    "ResizeInferer",
    "Trajectory",
    "VolumeInferer",
    "accelerate",
    "case_uncertainty",
    "resize_by_area",
]
