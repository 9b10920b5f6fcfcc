"""A bundle as one site of a federation: MONAI's client, told what the configurations cannot know by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.fl.client import MonaiAlgo

from hidiff_monai.io import require_known_key
from hidiff_monai.networks import HiDiff


def federated_client(
    bundle_root: str | Path, settings: Mapping[str, Any], rounds: int, local_epochs: int = 1
) -> MonaiAlgo:
    """MONAI's client on ``configs/train.json``: it sends differences of both networks, and scores what comes back.

    Segmentor pre-training has the share of all rounds that it has of the bundle's epochs, unless ``pretrain_epochs`` is
    set, and both learning rates go over all rounds. Scored is the average of the sites itself, on the
    site's validation cases, with *val_dice_refined* and *val_dice_prior*.

    Args:
        bundle_root: the bundle's folder.
        settings: keys of the training's configuration, of which a site has its own: ``dataset_dir``,
            ``datalist_file``, ``output_dir``.
        rounds: times that the sites' weights are averaged.
        local_epochs: epochs of each site in between.

    Raises:
        ValueError: if a key is unknown, or there are no rounds.
    """
    if min(rounds, local_epochs) < 1:
        raise ValueError(f"{rounds} rounds of {local_epochs} epochs; expected 1 or more of both")
    root = Path(bundle_root).expanduser().absolute()
    _require_known(root, settings)
    epochs = rounds * local_epochs
    schedule = {"max_epochs": epochs, "pretrain_epochs": share_of_pretraining(root, epochs)}
    evaluation = {**settings, "validate#evaluator#network": "@network", "initialize": []}
    return MonaiAlgo(
        str(root),
        local_epochs,
        train_kwargs={**schedule, **settings, "is_federated": True},
        config_evaluate_filename="configs/train.json",
        eval_kwargs=evaluation,
        best_model_filepath=None,
        final_model_filepath=None,
    )


def share_of_pretraining(bundle_root: Path, max_epochs: int) -> int:
    """Epochs of the segmentor's pre-training in a training of other length than the bundle's, rounded down."""
    own = ConfigParser.load_config_file(bundle_root / "configs" / "train.json")
    return max_epochs * int(own["pretrain_epochs"]) // int(own["max_epochs"])


def build_federated_network(bundle_root: str | Path, settings: Mapping[str, Any] | None = None) -> HiDiff:
    """The network that the server begins with, untrained.

    Args:
        bundle_root: the bundle's folder.
        settings: keys of the training's configuration, those of the networks the same as at every site.

    Raises:
        ValueError: if a key is unknown.
    """
    root = Path(bundle_root).expanduser().absolute()
    _require_known(root, settings or {})
    parser = ConfigParser()
    parser.read_config(root / "configs" / "train.json")
    parser.update({**(settings or {}), "bundle_root": str(root)})
    return parser.get_parsed_content("network_def")


def _require_known(root: Path, settings: Mapping[str, Any]) -> None:
    content = ConfigParser.load_config_file(root / "configs" / "train.json")
    for name in settings:
        require_known_key(name, content)
