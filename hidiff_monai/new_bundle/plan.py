"""From what a data set is like to what its training needs, each choice with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hidiff_monai.data.inspection import Findings

LARGEST_WHOLE = 320  # pixels; larger pictures are resized or cropped
TRAINED_SIZE = 256
LARGEST_WINDOW = 1024  # pixels
THIN_PX = 8  # at TRAINED_SIZE: what is thinner does not survive resizing
SMALLEST_WHOLE = 64  # 2 pixels at the network's coarsest level
LARGE_SLICE = 112  # pixels, from which on crops are a multiple of 32
ALIKE = 1.25  # slices whose edges differ less are taken to be of one size
NUM_BATCHES = 2400  # in all, half of them before the refiner trains
EPOCHS = (10, 400)
CHANNELS = {"segmentor": [16, 16, 32, 64, 96, 128], "refiner": [16, 16, 32, 32, 64, 64]}  # that a CPU trains
CORE_S_PER_MEGAPIXEL = (4.1, 15.0)  # segmentor alone, alternating: measured on one core of a busy server


@dataclass(frozen=True)
class Choice:
    """A setting of the new bundle and why it is so."""

    key: str
    value: Any
    reason: str


def choose_template(findings: Findings) -> Choice:
    """The bundle whose data are most alike: "acdc", "kvasir_seg" or "chase_db1".

    Raises:
        ValueError: for pictures with several classes, which no bundle has.
    """
    if findings.is_volume:
        return Choice("template", "acdc", "volumes, trained and predicted slice by slice")
    if len(findings.classes) > 1:
        names = [found.name for found in findings.classes]
        raise ValueError(
            f"{findings.name}: pictures with {len(names)} classes {names}; expected one: the bundles segment several "
            "classes in volumes only: merge them with `hidiff datalist ... --label_values`, for example "
            '"{0:0,1:1,2:1}", or make a datalist for each'
        )
    width, edge = findings.classes[0].width_px, max(findings.sizes[1])
    shrunk = width * TRAINED_SIZE / max(edge, TRAINED_SIZE)
    if edge > LARGEST_WHOLE and shrunk < THIN_PX:
        return Choice("template", "chase_db1", f"objects {shrunk:.1f} px wide at {TRAINED_SIZE}² would be lost: crops")
    return Choice("template", "kvasir_seg", f"objects {shrunk:.0f} px wide at {TRAINED_SIZE}² are seen whole: resized")


def choose_settings(findings: Findings, train: dict[str, Any], num_items: int) -> list[Choice]:
    """Values of keys at the top of train.json.

    Args:
        findings: what was found in the data.
        train: the template's train.json.
        num_items: slices or pictures that an epoch trains on.
    """
    smallest, largest = (size[:2] for size in findings.sizes)
    if "repeats_per_epoch" in train:
        size = [min(TRAINED_SIZE, _nearest(edge)) for edge in smallest]
        window = [min(LARGEST_WINDOW, edge) for edge in _cover(largest)]
        repeats = max(1, round(48 / num_items))
        choices = [
            Choice("crop_size", size, "crops keep the pixels as they are; a multiple of 32"),
            Choice("window_size", window, "prediction's, whole pictures where memory allows"),
            Choice("repeats_per_epoch", repeats, f"{num_items} pictures, so that an epoch is not over at once"),
            Choice("batch_size", 2, "with two crops each, for a CPU"),
            Choice("crops_per_image", 2, "see batch_size"),
        ]
        return [*choices, *_choose_epochs(num_items * repeats, 2, train)]
    if "image_size" in train:
        size = _cover(largest) if max(largest) <= LARGEST_WHOLE else [TRAINED_SIZE, TRAINED_SIZE]
        reason = f"whole pictures, the largest is {largest[0]} × {largest[1]}"
        choices = [Choice("image_size", size, f"{reason}; a multiple of 32")]
    else:
        size = [_choose_crop(*edges) for edges in zip(smallest, largest, strict=True)]
        found = " × ".join(f"{low}–{high}" for low, high in zip(smallest, largest, strict=True))
        reason = f"slices are {found}: alike, so that hardly any is padded, at most {TRAINED_SIZE} for the memory"
        choices = [Choice("crop_size", size, reason)]
    batch_size = _choose_batch_size(size, num_items)
    choices.append(Choice("batch_size", batch_size, f"for {size[0]} × {size[1]} pixels"))
    if findings.modality == "CT":
        choices.append(_choose_window(findings))
    return [*choices, *_choose_epochs(num_items, batch_size, train)]


def estimate_time(train: dict[str, Any], num_items: int) -> Choice:
    """How long the training takes on a CPU.

    Args:
        train: train.json with the choices made.
        num_items: slices or pictures, without repeats.
    """
    height, width = (32 * math.ceil(edge / 32) for edge in train.get("image_size") or train["crop_size"])
    num_crops = num_items * train.get("repeats_per_epoch", 1) * train.get("crops_per_image", 1)
    an_epoch = num_crops * height * width / 1e6
    alone, alternating = (an_epoch * seconds / 60 for seconds in CORE_S_PER_MEGAPIXEL)
    epochs = train["pretrain_epochs"], train["max_epochs"] - train["pretrain_epochs"]
    minutes = epochs[0] * alone + epochs[1] * alternating
    return Choice("time", f"about {minutes:.0f} minutes on one CPU core", "in all; `hidiff benchmark-loader` measures")


def explain_kept(is_volume: bool) -> list[Choice]:
    """What the template decides, and why that suits other data."""
    turned = "small angles, no flips: left and right, up and down mean something in a body"
    anyhow = (
        "any angle and flips, as in the template: where up and down mean something, set flips=False here and flip_axes "
        "to [] in evaluate.json and inference.json"
    )
    return [
        Choice("train#augmentation", "as in the template", turned if is_volume else anyhow),
        Choice("num_inference_steps", 1, "a short training: more steps made masks worse (docs/results.md)"),
        Choice("segmentor, refiner", "about 2 million weights", "small enough for a CPU; the template's want a GPU"),
    ]


def _cover(size: tuple[int, ...]) -> list[int]:
    """The multiples of 32 that hold a size."""
    return [max(SMALLEST_WHOLE, 32 * math.ceil(edge / 32)) for edge in size]


def _nearest(edge: int) -> int:
    return max(32, 32 * round(edge / 32))


def _choose_crop(smallest: int, largest: int) -> int:
    """An edge of crops of slices that are evaluated whole, which a crop must resemble.

    Where slices of 32 to 38 pixels were padded with zeros to 64, the networks saw borders that no slice has: the prior
    lost 6 points of validation Dice on a phantom (one seed), and the refiner 11.
    """
    if smallest >= LARGE_SLICE:
        return min(TRAINED_SIZE, _nearest(smallest))
    return largest if largest <= ALIKE * smallest else smallest


def _choose_batch_size(size: list[int], num_items: int) -> int:
    pixels = size[0] * size[1]
    wanted = 16 if pixels <= 96**2 else 8 if pixels <= 192**2 else 4
    number = min(wanted, max(2, num_items // 2), num_items)
    while num_items % number == 1:  # BatchNorm needs more than one item in the last mini-batch too
        number += 1
    return number


def _choose_window(findings: Findings) -> Choice:
    """The foreground's values, with half of their range to either side for what surrounds it, in steps of 5 HU."""
    low, high = findings.percentiles[0][0], findings.percentiles[0][-1]
    margin = max((high - low) / 2, 50)
    window = [5 * math.floor((low - margin) / 5), 5 * math.ceil((high + margin) / 5)]
    reason = f"Hounsfield units: {low:.0f} to {high:.0f} in the foreground, and half as much to either side"
    return Choice("intensity_window", window, reason)


def _choose_epochs(num_items: int, batch_size: int, train: dict[str, Any]) -> list[Choice]:
    per_epoch = math.ceil(num_items / batch_size)
    pretrain = max(EPOCHS[0] // 2, min(EPOCHS[1] // 2, math.ceil(NUM_BATCHES / 2 / per_epoch)))
    interval = max(1, pretrain // 5)
    reason = f"{per_epoch} mini-batches an epoch, so {pretrain * per_epoch}"
    alternates = train["alternation"].get("segmentor_epochs") is None
    how = "in alternation with the refiner" if alternates else "for the refiner alone"
    return [
        Choice("pretrain_epochs", pretrain, f"{reason} for the segmentor alone"),
        Choice("max_epochs", 2 * pretrain, f"as many {how}"),
        Choice("val_interval", interval, "about five validations in either phase"),
    ]
