"""Lists of MONAI transforms that several bundles share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from monai.transforms import (
    AsDiscreted,
    Compose,
    CopyItemsd,
    Lambda,
    Lambdad,
    LoadImaged,
    NormalizeIntensityd,
    RandAffined,
    RandFlipd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropSamplesd,
    Resized,
    ScaleIntensityRanged,
    SelectItemsd,
    SpatialPadd,
    Transform,
)
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from hidiff_monai.data import (
    ClassesToChannelsd,
    LiftBlackd,
    LoadPhotographd,
    LoadScand,
    LoadSliced,
    LoadVolumed,
    NormalizeByVolumed,
    label_transform,
)
from hidiff_monai.io.images import open_picture
from hidiff_monai.metrics import class_masks


def photograph_transforms(datalist_file: str | Path | None = None, black_level: float | None = None) -> list[Transform]:
    """Reads a colour photograph with its label and *region*; normalises each channel over its non-zero pixels.

    Args:
        datalist_file: says which class a label's grey value means, and keeps a copy of the image as *picture* for the
            report; None where there are images only, in inference.
        black_level: grey value of the surround in training images where that is dark, but not zero: stands for it in
            images whose surround is zero, see ``LiftBlackd``. None leaves images as they are.
    """
    image = LoadPhotographd("image")
    normalise: list[Transform] = [
        *([] if black_level is None else [LiftBlackd("image", black_level)]),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
    ]
    if datalist_file is None:
        return [image, *normalise]
    masks = LoadImaged(
        ["label", "region"],
        reader="PILReader",
        converter=_as_grey,
        reverse_indexing=False,
        ensure_channel_first=True,
        allow_missing_keys=True,
    )
    return [
        image,
        masks,
        label_transform(datalist_file),
        AsDiscreted("region", threshold=0.5, allow_missing_keys=True),
        CopyItemsd("image", names="picture"),
        *normalise,
    ]


def _as_grey(image: ImageFile) -> Image.Image:
    """Upright, in grey; values of more than 8 bits stay, which Pillow would clip at 255.

    Args:
        image: as the reader opened it by its path, not loaded yet.
    """
    with open_picture(os.fsdecode(image.filename)) as stored:
        upright = ImageOps.exif_transpose(stored)
    return upright if upright.mode.startswith(("I", "F")) else upright.convert("L")


def slice_transforms(num_classes: int, intensity_window: Sequence[float] | None = None) -> list[Transform]:
    """Reads a slice of a prepared volume: image (C, X, Y), label (num_classes + 1, X, Y) with the background first.

    Args:
        num_classes: K, without the background.
        intensity_window: the image's values (lowest, highest) that become 0 and 1, what lies outside is clipped, as
            for Hounsfield units; None normalises each channel over the volume's non-zero voxels.
    """
    return [
        LoadSliced(["image", "label"]),
        _intensity(intensity_window),
        ClassesToChannelsd("label", num_classes, exclusive=True),
    ]


def volume_transforms(intensity_window: Sequence[float] | None = None) -> list[Transform]:
    """Reads a prepared volume: image (C, X, Y, D), label (1, X, Y, D) of class numbers; see ``slice_transforms``."""
    return [LoadVolumed(["image", "label"]), _intensity(intensity_window)]


def scan_transforms(intensity_window: Sequence[float] | None = None, acquired: bool = False) -> list[Transform]:
    """Reads NIfTI files or DICOM series to predict: image (C, X, Y, D) in RAS; see ``slice_transforms``.

    Args:
        intensity_window: likewise.
        acquired: keeps the planes that were acquired instead, see ``LoadScand``.
    """
    return [LoadScand("image", acquired), _intensity(intensity_window)]


def _intensity(window: Sequence[float] | None) -> Transform:
    if window is None:
        return NormalizeByVolumed("image")
    low, high = window
    return ScaleIntensityRanged("image", a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True)


def augment_2d(
    crop_size: Sequence[int],
    num_crops: int = 1,
    rotation: float = 0.8,
    scaling: float = 0.2,
    intensity: float = 0.2,
    resize: bool = False,
    flips: bool = True,
    affine_prob: float = 0.3,
) -> list[Transform]:
    """Crops and augments *image* (C, H, W) and *label* (K, H, W), and drops every other key.

    Flips and, of squares, quarter turns with probability 1/2 each; rotation and scaling with reflected borders; each
    channel's contrast, and the brightness, in every second case. Images smaller than the crop are padded.

    Args:
        crop_size: (H, W) of the crops.
        num_crops: crops per image.
        rotation: largest angle, in radians.
        scaling: s; what is shown becomes 1 / (1 + a) times as high and 1 / (1 + b) times as wide, a and b in -s ... s.
        intensity: largest relative change of contrast, and largest shift in units of the normalised image.
        resize: brings whole images to ``crop_size`` instead of cropping, as ``ResizeInferer`` does.
        flips: false where left and right, up and down mean something, as in a body.
        affine_prob: probability of a rotation and scaling.
    """
    keys = ["image", "label"]
    resized = Resized(keys, crop_size, mode=["area", "nearest-exact"])
    cropped = [
        SpatialPadd(keys, crop_size, mode="edge"),  # as the network pads what it predicts
        RandSpatialCropSamplesd(keys, crop_size, num_crops, random_size=False),
    ]
    flipped = [
        RandFlipd(keys, prob=0.5, spatial_axis=0),
        RandFlipd(keys, prob=0.5, spatial_axis=1),
        *([RandRotate90d(keys, prob=0.5)] if crop_size[0] == crop_size[1] else []),  # a quarter turn swaps the edges
    ]
    return [
        SelectItemsd(keys),
        *([resized] if resize else cropped),
        *(flipped if flips else []),
        RandAffined(
            keys,
            prob=affine_prob,
            rotate_range=rotation,
            scale_range=(scaling, scaling),  # one number would stretch the first axis alone
            mode=["bilinear", "nearest"],
            padding_mode="reflection",
        ),
        RandScaleIntensityd("image", factors=intensity, prob=0.5, channel_wise=True),
        RandShiftIntensityd("image", offsets=intensity, prob=0.5),
    ]


def unpack_predictions() -> Transform:
    """Puts the inferer's maps beside *label*: {"pred": {"refined": ...}, ...} -> {"refined": ..., "pred": ..., ...}."""
    return Lambda(lambda item: {**item, **item["pred"]})


def mask_transforms(threshold: float = 0.5, exclusive: bool = False) -> Compose:
    """Turns *refined* and *prior* probabilities (K, ...) into masks in {0, 1}, channel by channel.

    Args:
        threshold: probability from which on a pixel is foreground.
        exclusive: whether a pixel has exactly one of the K classes: the likeliest, whatever the threshold.
    """
    keys = ["refined", "prior"]
    if exclusive:
        as_masks: Transform = Lambdad(keys, lambda values: class_masks(values, threshold, exclusive=True).float())
    else:
        as_masks = AsDiscreted(keys, threshold=threshold)
    return Compose([unpack_predictions(), as_masks])
