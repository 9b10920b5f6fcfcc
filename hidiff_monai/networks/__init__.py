"""The binarized refiner, its parts, and the joint module."""

from hidiff_monai.networks.binarize import BinaryConv2d, BinaryLinear, binary_weight, sign_ste
from hidiff_monai.networks.hidiff import HiDiff
from hidiff_monai.networks.padding import pad_to_multiple
from hidiff_monai.networks.refiner import DiffusionRefiner

__all__ = [
    "BinaryConv2d",
    "BinaryLinear",
    "DiffusionRefiner",
    "HiDiff",
    "binary_weight",
    "pad_to_multiple",
    "sign_ste",
]
