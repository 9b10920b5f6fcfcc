"""What is measured: a bundle's network in the form that predicts, and the labelled cases of a section."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Transform

from hidiff_monai.bundle_runs import find_config
from hidiff_monai.data import labelled_names
from hidiff_monai.dial.prior import PriorInferer
from hidiff_monai.inferers import BernoulliDiffusionInferer, VolumeInferer, accelerate
from hidiff_monai.io import load_weights
from hidiff_monai.metrics import class_masks, confusion_counts, dice
from hidiff_monai.networks import HiDiff
from hidiff_monai.prediction.model import (
    MAPS,
    build_part,
    choose_device,
    class_names,
    find_checkpoint,
    parse_config,
    read_config,
    read_threshold,
    sampling_of,
)
from hidiff_monai.prediction.sampler import SamplerSetting


@dataclass(frozen=True)
class Case:
    """A labelled case as the network sees it.

    Attributes:
        name: its id.
        image: (C, H, W), or (C, X, Y, D).
        label: (K, H, W) in {0, 1}, or (1, X, Y, D) of class numbers.
    """

    name: str
    image: torch.Tensor
    label: torch.Tensor


@dataclass(frozen=True)
class Subject:
    """A network with its cases.

    Attributes:
        bundle: the bundle's folder.
        checkpoint: the file of the weights.
        device: where the network is.
        network: in evaluation mode.
        refiner: the form in which its refiner runs.
        inferer: the evaluation's.
        items: the section's cases.
        preprocessing: from an item to image and label.
        targets: names of what is scored.
        channels: of each target its channel, or in volumes its class number.
        threshold: probability above which a pixel is foreground, where there are channels.
    """

    bundle: Path
    checkpoint: Path
    device: torch.device
    network: HiDiff
    refiner: str
    inferer: Inferer
    items: list[dict[str, Any]]
    preprocessing: Transform
    targets: list[str]
    channels: list[int]
    threshold: float

    def cases(self) -> Iterator[Case]:
        """Reads one case after the other."""
        for item in self.items:
            data = self.preprocessing(dict(item))
            yield Case(str(item["id"]), data["image"].as_tensor(), torch.as_tensor(data["label"]))

    def inferer_for(self, setting: SamplerSetting) -> Inferer:
        """The evaluation's inferer, set so; of the prior, one that leaves the refiner out."""
        inner = sampling_of(self.inferer)
        if setting.is_prior:
            drawing: BernoulliDiffusionInferer = PriorInferer(
                outputs=inner.outputs, window=inner.window, flip_axes=inner.flip_axes
            )
        else:
            drawing = copy(inner)
            drawing.temperature = 1.0  # moves no mask, but would move where the threshold lies
            setting.apply(drawing)
        if isinstance(self.inferer, VolumeInferer):
            return VolumeInferer(drawing, self.inferer.batch_size, progress=False)
        return drawing

    def score(self, maps: Mapping[str, torch.Tensor], case: Case) -> float:
        """Dice of the refined mask of a case in [0, 1]: each target by itself, then their mean."""
        refined, label = maps["refined"][0].cpu().numpy(), case.label.numpy()
        if isinstance(self.inferer, VolumeInferer):
            pairs = [(refined[0] == number, label[0] == number) for number in self.channels]
        else:
            masks = class_masks(refined, self.threshold, self.network.exclusive).numpy()
            pairs = [(masks[number], label[number] > 0.5) for number in self.channels]
        return float(np.mean([dice(confusion_counts(found, truth)) for found, truth in pairs]))

    def hash_data(self) -> str:
        """SHA-256 of names, images and labels, as the network sees them."""
        digest = hashlib.sha256()
        for case in self.cases():
            digest.update(f"{case.name} {tuple(case.image.shape)} {tuple(case.label.shape)}".encode())
            for values in (case.image, case.label):
                digest.update(np.ascontiguousarray(values.numpy()).tobytes())
        return digest.hexdigest()


def load_subject(
    bundle: str | Path,
    dataset_dir: str | Path,
    datalist_file: str | Path | None = None,
    section: str = "validation",
    checkpoint: str | Path | None = None,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Subject:
    """Reads ``train.json`` under ``evaluate.json``, as the evaluation does, with the weights of `hidiff predict`.

    Args:
        bundle: the bundle's folder.
        dataset_dir: the folder that the datalist's paths are relative to.
        datalist_file: None for the bundle's own.
        section: "validation", "test" or "training".
        checkpoint: the weights; None for those that come with the bundle, else what its training wrote by default.
        device: see `choose_device`.
        overrides: further keys of the two files.

    Raises:
        ValueError: if a file or a key is missing or wrong, or a case has no label.
    """
    folder = Path(bundle).expanduser().absolute()
    config = ConfigParser.load_config_files([find_config(folder, name) for name in ("train", "evaluate")])
    file = find_checkpoint(folder, checkpoint)
    keys, where = {**(overrides or {})}, choose_device(device)
    places = {"bundle_root": str(folder), "dataset_dir": str(dataset_dir), "device": where, "section": section}
    places |= {} if datalist_file is None else {"datalist_file": str(datalist_file)}
    inferer = "validate#inferer#inferer" if "inferer" in config["validate"]["inferer"] else "validate#inferer"
    parser = parse_config(config, keys, {**places, f"{inferer}#outputs": MAPS})
    parts = {name: build_part(parser, f"validate#{name}", keys) for name in ("inferer", "preprocessing")}
    items = build_part(parser, "validate#dataset#data", keys)
    _require_labels(items, section)
    network = build_part(parser, "network", keys)
    load_weights(network, file)
    accelerated = accelerate(network.eval(), where)
    is_volume = isinstance(parts["inferer"], VolumeInferer)
    names, has_background = class_names(read_config(folder, "metadata.json"))
    known = labelled_names(build_part(parser, "datalist_file", keys)) if is_volume else names
    first = int(is_volume or has_background)  # a volume's classes count from 1; a background has the channel 0
    numbered = [(name, number) for number, name in enumerate(names, start=first) if name in known]
    return Subject(
        bundle=folder,
        checkpoint=file,
        device=where,
        network=accelerated.network,
        refiner=accelerated.form,
        inferer=parts["inferer"],
        items=items,
        preprocessing=parts["preprocessing"],
        targets=[name for name, _ in numbered],
        channels=[number for _, number in numbered],
        threshold=read_threshold(parser, config),
    )


def _require_labels(items: list[dict[str, Any]], section: str) -> None:
    without = [item["id"] for item in items if "label" not in item]
    if without:
        raise ValueError(f"case {without[0]} of section '{section}' has no label; expected one: name another section")
