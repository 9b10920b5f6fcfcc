"""A bundle's inference configuration, made ready to predict one case after the other."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Transform

from hidiff_monai.data.labels import RULES
from hidiff_monai.inferers import Accelerated, BernoulliDiffusionInferer, VolumeInferer, accelerate
from hidiff_monai.io import hash_file, load_weights, require_known_key
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.metrics import temper_threshold
from hidiff_monai.networks import HiDiff

MAPS = ["refined", "prior", "entropy"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """What predicts: everything of a bundle that a case passes through.

    Attributes:
        bundle: the bundle's folder.
        checkpoint: the file of its weights.
        device: where the network is.
        items: the cases found in the input: "id", "image" and whatever else the bundle's list functions say.
        preprocessing: from such an item to an image tensor.
        inferer: from the image to its maps.
        network: in evaluation mode.
        refiner: the form in which its refiner runs, see `Accelerated`.
        names: the classes, without the background; class k is ``names[k - 1]``.
        modality: what the metadata say the images are, for example "CT".
        task: what the metadata say the bundle does.
        label_rule: "label_values" or "label_threshold" of the configuration: what the values of label files mean.
        threshold: probability above which a pixel is foreground, where there is one class, before any temperature.
        refined_threshold: where the temperature has moved it to: of the refined probability.
        settings: what the masks depend on beside the case, as JSON values.
    """

    bundle: Path
    checkpoint: Path
    device: torch.device
    items: list[dict[str, Any]]
    preprocessing: Transform
    inferer: Inferer
    network: HiDiff
    refiner: str
    names: list[str]
    modality: str
    task: str
    label_rule: dict[str, Any]
    threshold: float
    refined_threshold: float
    settings: dict[str, Any]

    @property
    def is_volumetric(self) -> bool:
        """Whether cases are volumes, predicted slice by slice; else photographs."""
        return isinstance(self.inferer, VolumeInferer)

    @property
    def sampling(self) -> BernoulliDiffusionInferer:
        """The inferer that runs the chains, within a `VolumeInferer` or by itself."""
        return sampling_of(self.inferer)


def sampling_of(inferer: Inferer) -> BernoulliDiffusionInferer:
    """The part of a bundle's inferer that runs the chains, within a `VolumeInferer` or by itself."""
    inner = inferer.inferer if isinstance(inferer, VolumeInferer) else inferer
    assert isinstance(inner, BernoulliDiffusionInferer)
    return inner


def choose_device(name: str | None = None) -> torch.device:
    """The device named, or the best there is: CUDA, Apple's MPS, CPU.

    Raises:
        ValueError: if the name is unknown or there is no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, is_there in available.items() if is_there))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or not available.get(device.type, False):
        there = [kind for kind, is_there in available.items() if is_there]
        raise ValueError(f"--device {name}: there is none here; expected one of {there}: leave it out for {there[0]}")
    return device


def load_model(
    bundle: str | Path,
    source: str | Path,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    steps: int | None = None,
    samples: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    eager: bool = False,
) -> Model:
    """Reads ``configs/inference.json`` and ``configs/metadata.json`` of a bundle and its weights.

    Args:
        bundle: the bundle's folder.
        source: file or folder with the cases, as ``dataset_dir``.
        checkpoint: the weights; None for ``models/model.pt`` of the bundle, else what its training wrote by default.
        device: see `choose_device`.
        steps: steps of the reverse chain; None for the bundle's.
        samples: chains behind the uncertainty; None for the bundle's.
        overrides: further keys of the configuration, as on the command line of ``monai.bundle``.
        eager: runs the refiner as it was trained, not in the form that is fastest on the device.

    Raises:
        ValueError: if a file or a key is missing or wrong, there is no case, or the classes overlap.
    """
    folder = Path(bundle).expanduser().absolute()
    config = read_config(folder, "inference.json")
    metadata = read_config(folder, "metadata.json")
    file = find_checkpoint(folder, checkpoint)
    _warn_of_fitted(folder, file, config, overrides or {})
    chosen = choose_device(device)
    inferer = "inferer#inferer" if "inferer" in config["inferer"] else "inferer"
    keys = {**(overrides or {})}
    keys |= {} if steps is None else {"num_inference_steps": _positive("steps", steps)}
    keys |= {} if samples is None else {f"{inferer}#num_samples": _positive("samples", samples)}
    places = {"bundle_root": str(folder), "dataset_dir": str(source), "checkpoint": str(file), "device": chosen}
    parser = parse_config({**dict.fromkeys(RULES), **config}, keys, {f"{inferer}#outputs": MAPS, **places})
    names, classes_exclude = class_names(metadata)
    if len(names) > 1 and not classes_exclude:
        raise ValueError(f"{folder.name}: classes {names} overlap; expected classes of which a pixel has one")
    built = {key: build_part(parser, key, keys) for key in ("network", "preprocessing", "inferer")}
    load_weights(built["network"], file)
    threshold = read_threshold(parser, config)
    refined_threshold = temper_threshold(threshold, sampling_of(built["inferer"]).temperature)
    network, form = _prepare(built["network"].eval(), chosen, eager)
    return Model(
        bundle=folder,
        checkpoint=file,
        device=chosen,
        items=parser.get_parsed_content("dataset#data"),
        preprocessing=built["preprocessing"],
        inferer=built["inferer"],
        network=network,
        refiner=form,
        names=names,
        modality=metadata["network_data_format"]["inputs"]["image"]["modality"],
        task=metadata["task"],
        label_rule=_find_rule(keys) or _find_rule(config),
        threshold=threshold,
        refined_threshold=refined_threshold,
        settings=json.loads(json.dumps({"steps": steps, "samples": samples, **(overrides or {})}, default=str)),
    )


def _find_rule(config: Mapping[str, Any]) -> dict[str, Any]:
    return {rule: config[rule] for rule in RULES if config.get(rule) is not None}


def is_foreign(bundle: Path, checkpoint: Path) -> bool:
    """Whether weights are others than those that come with a bundle, to which its configuration is fitted."""
    own = bundle / "models" / "model.pt"
    return checkpoint != own and own.is_file() and hash_file(checkpoint) != hash_file(own)


def _warn_of_fitted(folder: Path, file: Path, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """What a bundle's configuration has fitted to the weights that come with it says little about others."""
    neutral = {"temperature": 1.0, "threshold": 0.5}
    fitted = [key for key, value in neutral.items() if config.get(key, value) != value and key not in overrides]
    if fitted and file.is_file() and is_foreign(folder, file):
        logger.warning(
            "%s of %s: %s: chosen for the weights that come with the bundle, not for %s; give %s, or your own",
            " and ".join(fitted), folder.name, ", ".join(f"{config[key]:g}" for key in fitted), file,
            " ".join(f"--{key} {neutral[key]:g}" for key in fitted),
        )  # fmt: skip


def _prepare(network: HiDiff, device: torch.device, eager: bool) -> Accelerated:
    """The network as it is to run, and the form of its refiner."""
    if device.type == "cpu":
        from hidiff_monai.ops.allocator import keep_freed_memory

        keep_freed_memory()
    return Accelerated(network, "eager") if eager else accelerate(network, device)


def parse_config(config: dict[str, Any], overrides: Mapping[str, Any], places: Mapping[str, Any]) -> ConfigParser:
    """A bundle's configuration with the keys that a user gave, each of which it must know, and those given here.

    Raises:
        ValueError: if a key of the user's is unknown.
    """
    for name in overrides:
        require_known_key(name, config)
    parser = ConfigParser()
    parser.read_config(config)
    parser.update({**overrides, **{key: _literal(value) for key, value in places.items()}})
    return parser


def _literal(value: Any) -> Any:
    """A path as an expression: MONAI would read #, @, % and $ in it as marks of its own."""
    if not isinstance(value, str):
        return value
    return "$" + "".join(f"\\x{ord(sign):02x}" if sign in "#@%$" else sign for sign in repr(value))


def build_part(parser: ConfigParser, key: str, overrides: Mapping[str, Any]) -> Any:
    """What a key of the configuration stands for; whatever a wrong value ends in becomes a sentence."""
    try:
        return parser.get_parsed_content(key)
    except Exception as error:
        if find_value_error(error) is not None:
            raise
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__  # type: ignore[assignment]
        raise ValueError(
            f"'{key}' of the bundle cannot be built with {dict(overrides)} ({type(cause).__name__}: {cause}); expected "
            "values as in configs/inference.json: correct the option"
        ) from error


def read_threshold(parser: ConfigParser, config: Mapping[str, Any]) -> float:
    """The bundle's threshold; one half where it has none, as bundles of several classes.

    Raises:
        ValueError: if it is no number in [0, 1].
    """
    value = parser.get_parsed_content("threshold") if "threshold" in config else 0.5
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"--threshold {value!r}; expected a number in [0, 1]")
    return float(value)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    file = folder / "configs" / name
    if not file.is_file():
        raise ValueError(f"{file} is missing; expected a bundle's folder, for example bundles/acdc: correct --bundle")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON ({error}); expected the bundle's configuration: restore it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}; expected keys and values: restore it")
    return content


def find_checkpoint(folder: Path, given: str | Path | None = None) -> Path:
    """The weights given, else those that come with a bundle, or those that its training wrote by default."""
    if given:
        return Path(given).expanduser()
    places = [folder / "models" / "model.pt", folder / "output" / "models" / "model.pt"]
    found = [place for place in places if place.is_file()]
    if not found:
        shown = " or ".join(os.path.relpath(place, folder.parent) for place in places)
        raise ValueError(f"{folder}: no weights in {shown}; expected a trained bundle: train it, or give --checkpoint")
    if len(found) > 1:
        logger.warning(
            "the weights that come with %s are taken; for your own give --checkpoint %s", folder.name, found[1]
        )
    return found[0]


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"--{name} {value!r}; expected a whole number from 1")
    return value


def class_names(metadata: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Names of the classes without the background, and whether a pixel has one of them only."""
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    names = [str(channels[key]) for key in sorted(channels, key=int)]
    has_background = names[0] == "background"
    return names[1:] if has_background else names, has_background
