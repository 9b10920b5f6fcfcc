"""The template's configurations made those of the new data: only what differs is changed."""

from __future__ import annotations

import re
from typing import Any

from hidiff_monai.bundle_runs import FITTED
from hidiff_monai.data.inspection import Findings
from hidiff_monai.data.labels import RULES

from .plan import CHANNELS, Choice
from .template import Config

WINDOW_INTENSITY = 0.2  # shift and relative contrast of images between 0 and 1, as in the synapse bundle
REFERENCE = (
    "T. Chen, C. Wang, Z. Chen, Y. Lei, H. Shan: HiDiff: Hybrid Diffusion Framework for Medical Image Segmentation. "
    "IEEE Transactions on Medical Imaging, 2024"
)


def configure(
    configs: dict[str, Config],
    name: str,
    findings: Findings,
    choices: list[Choice],
    paths: dict[str, str],
    template: str,
) -> None:
    """Changes all configurations in place.

    Args:
        configs: the template's, by name.
        name: of the bundle.
        findings: what was found in the data.
        choices: values of keys at the top of train.json.
        paths: "bundle_root", "dataset_dir" and "datalist_file".
        template: its name, for the changelog.

    Raises:
        ValueError: if the template lacks a key or an expression that has to be changed.
    """
    train, inference = configs["train"], configs["inference"]
    for key, value in paths.items():
        train.set(key, value)
    inference.set("bundle_root", paths["bundle_root"])
    for rule in RULES:
        inference.content.pop(rule, None)
    for rule, value in findings.label_rule.items():
        inference.insert_after("checkpoint", rule, value)
    for config in (train, inference, configs["evaluate"]):
        for choice in choices:
            if choice.key in config.content:
                config.set(choice.key, choice.value)
    for config in (configs["evaluate"], inference):
        for key, neutral in FITTED.items():
            if key in config.content:
                config.set(key, neutral)
    for config in (train, inference):
        _set_channels(config, findings)
    if findings.is_volume:
        window = next((choice.value for choice in choices if choice.key == "intensity_window"), None)
        _set_window(train, inference, window, findings.acquired)
        _set_classes(train, findings)
        _set_sequences(inference, findings)
    _set_evaluation(configs["evaluate"], name, findings)
    _set_metadata(configs["metadata"], name, findings, train.content.get("intensity_window"), template)


def num_targets(findings: Findings) -> int:
    """Channels of the mask: of volumes with one for the background."""
    return len(findings.classes) + findings.is_volume


def num_channels(findings: Findings) -> int:
    """Channels that the network sees: every picture comes in red, green and blue."""
    return findings.channels if findings.is_volume else 3


def _set_channels(config: Config, findings: Findings) -> None:
    config.set("segmentor#in_channels", num_channels(findings))
    config.set("refiner#image_channels", num_channels(findings))
    for network, channels in CHANNELS.items():
        config.set(f"{network}#num_targets", num_targets(findings))
        config.set(f"{network}#channels", channels)


def _set_window(train: Config, inference: Config, window: list[int] | None, acquired: bool) -> None:
    """Clips Hounsfield units, or normalises each volume, in training, validation and inference; there keeps planes."""
    argument = "" if window is None else "@intensity_window"
    for config, neighbour in ((train, "crop_size"), (inference, "checkpoint")):
        if window is None:
            config.content.pop("intensity_window", None)
        elif "intensity_window" not in config.content:
            config.insert_after(neighbour, "intensity_window", window)
    if window is not None and "intensity=" in train.get("train#augmentation"):  # a template's is of a deviation of 1
        train.substitute("train#augmentation", r"intensity=[\d.]+", f"intensity={WINDOW_INTENSITY}")
    train.substitute("validate#preprocessing#transforms", r"(?<=_transforms)\([^()]*\)", f"({argument})")
    arguments = ", ".join(filter(None, (argument, "acquired=True" if acquired else "")))
    inference.substitute("preprocessing#transforms", r"(?<=_transforms)\([^()]*\)", f"({arguments})")


def _set_classes(train: Config, findings: Findings) -> None:
    number = len(findings.classes)
    window = ", @intensity_window" if "intensity_window" in train.content else ""
    key = "train#preprocessing#transforms"
    train.substitute(key, r"slice_transforms\(\d+(, @intensity_window)?\)", f"slice_transforms({number}{window})")
    for metric in ("key_metric#val_dice_refined", "additional_metrics#val_dice_prior"):
        train.set(f"validate#{metric}#num_classes", number + 1)


def _set_sequences(inference: Config, findings: Findings) -> None:
    names = f", {channel_names(findings)}" if findings.channels > 1 else ""
    inference.substitute("dataset#data", r"list_volumes\(@dataset_dir[^()]*\)", f"list_volumes(@dataset_dir{names})")


def _set_evaluation(evaluate: Config, name: str, findings: Findings) -> None:
    writer = next((item for item in evaluate.get("validate#handlers") if "target_names" in item), None)
    if writer is None:
        raise ValueError(f"{evaluate.file}: no handler has target_names; expected one: name another --template")
    writer["target_names"] = [found.name for found in findings.classes]
    evaluate.substitute("report", r"title='[^']*' \+ @section", f"title={name + ', '!r} + @section")


def _set_metadata(metadata: Config, name: str, findings: Findings, window: list[int] | None, template: str) -> None:
    content = metadata.content
    classes = [found.name for found in findings.classes]
    content["changelog"] = {content["version"]: f"made by `hidiff new-bundle` from {template}"}
    content |= {
        "name": f"HiDiff for {name}",
        "task": f"Segmentation of {', '.join(classes)} in {name}",
        "description": re.sub(r"a polyp mask|a mask of vessels|a vessel mask", "a mask", content["description"]),
        "authors": "not stated",
        "copyright": "not stated",
        "data_source": findings.name,
        "data_type": "nifti" if findings.is_volume else "picture",
        "references": [REFERENCE],
    }
    for key in ("image_classes", "label_classes"):
        metadata.set(key, describe_values(findings, window) if key == "image_classes" else _describe_classes(findings))
    if not findings.is_volume:
        metadata.set("pred_classes", f"single channel, probability of {classes[0]}")
    image, mask = (f"network_data_format#{place}" for place in ("inputs#image", "outputs#pred"))
    metadata.set(f"{image}#num_channels", num_channels(findings))
    metadata.set(f"{image}#channel_def", _numbered(channel_names(findings)))
    metadata.set(f"{image}#modality", "unknown" if findings.modality.startswith("MR") else findings.modality)
    if findings.is_volume:
        metadata.set(f"{image}#format", "magnitude" if window is None else "hounsfield")
        metadata.set(f"{image}#value_range", [] if window is None else [0, 1])
    metadata.set(f"{mask}#num_channels", num_targets(findings))
    background = ["background"] if findings.is_volume else []
    metadata.set(f"{mask}#channel_def", _numbered([*background, *classes]))


def channel_names(findings: Findings) -> list[str]:
    """What the network's channels show."""
    if not findings.is_volume:
        return ["red", "green", "blue"]
    if findings.channels == 1:
        return [findings.modality]
    return findings.channel_names or [f"channel{number}" for number in range(findings.channels)]


def describe_values(findings: Findings, window: list[int] | None) -> str:
    """What the network sees of an image, in words."""
    if not findings.is_volume:
        return "RGB picture, every channel normalised to zero mean and unit deviation over its non-zero pixels"
    if window is not None:
        return f"1 channel(s), Hounsfield units from {window[0]} to {window[1]} as 0 to 1"
    return f"{findings.channels} channel(s), each with mean 0 and deviation 1 over the volume's non-zero voxels"


def _describe_classes(findings: Findings) -> str:
    names = [found.name for found in findings.classes]
    if not findings.is_volume:
        return f"single channel, 1 is {names[0]}, 0 is everything else"
    return ", ".join(f"{number} {name}" for number, name in enumerate(["background", *names]))


def _numbered(names: list[str]) -> dict[str, Any]:
    return {str(number): name for number, name in enumerate(names)}
