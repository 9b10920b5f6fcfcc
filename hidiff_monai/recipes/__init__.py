"""What the bundles have in common, as functions that their configurations call."""

from hidiff_monai.recipes.federated import build_federated_network, federated_client
from hidiff_monai.recipes.training import attach_handlers
from hidiff_monai.recipes.transforms import (
    augment_2d,
    mask_transforms,
    photograph_transforms,
    scan_transforms,
    slice_transforms,
    unpack_predictions,
    volume_transforms,
)

__all__ = [
    "attach_handlers",
    "augment_2d",
    "build_federated_network",
    "federated_client",
    "mask_transforms",
    "scan_transforms",
    "photograph_transforms",
    "slice_transforms",
    "unpack_predictions",
    "volume_transforms",
]
