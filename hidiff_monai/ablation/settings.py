"""What all rows of an ablation have in common: checked before the first run, and kept, so that no others join them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

import hidiff_monai
from hidiff_monai.ablation.variants import VARIANTS, Sampling
from hidiff_monai.bundle_runs import find_config, find_datalist, keep_settings, refuse_other_settings
from hidiff_monai.io import hash_file
from hidiff_monai.io.command_line import describe_overrides

PLACES = ("dataset_dir", "datalist_file", "num_workers")  # the data's content counts, not where they lie
OWN = {
    *("bundle_root", "output_dir", "model_dir", "evaluation_dir", "section", "report", "seed"),
    *("checkpoint", "network", "initial_weights", "resume_from", "alternation#segmentor_epochs"),
}  # keys that the runs set themselves


def require_free_keys(overrides: Mapping[str, Any]) -> None:
    """No override may undo what makes one row another.

    Raises:
        ValueError: if a key is one that the variants, samplings or runs set, or a part or the whole of one.
    """
    taken = OWN | Sampling("hard", 1).settings().keys()
    taken |= {key for variant in VARIANTS for key in variant.configuration()}
    clash = sorted(key for key in overrides if any(_overlap(key.replace("::", "#"), other) for other in taken))
    if clash:
        raise ValueError(f"got overrides {clash}; expected none that the variants or their runs set: leave them out")


def _overlap(key: str, other: str) -> bool:
    return f"{key}#".startswith(f"{other}#") or f"{other}#".startswith(f"{key}#")


def read_epochs(bundle: Path, overrides: Mapping[str, Any]) -> dict[str, int]:
    """Epochs of the pre-training, and of what follows in every row.

    Raises:
        ValueError: if the configuration has no pre-training, or no alternation.
    """
    parser = ConfigParser()
    parser.read_config(find_config(bundle, "train"))
    keys = ("pretrain_epochs", "max_epochs")
    parser.update({key: overrides[key] for key in keys if key in overrides})
    try:
        pretraining, last = (int(parser.get_parsed_content(key)) for key in keys)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{bundle}: its train.json lacks one of {', '.join(keys)} ({error}); expected a bundle of this package"
        ) from error
    if not 0 < pretraining < last:
        raise ValueError(
            f"pretrain_epochs is {pretraining}, max_epochs {last}; expected pre-training and alternation, both of at "
            "least one epoch"
        )
    return {"pretrain_epochs": pretraining, "alternating_epochs": last - pretraining}


def describe_ablation(bundle: Path, section: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows depend on, without paths, as JSON values."""
    where = {"bundle_root": bundle, "dataset_dir": "", **overrides}
    datalist = Path(str(where.get("datalist_file") or find_datalist(bundle, where))).expanduser()
    told = describe_overrides({key: value for key, value in overrides.items() if key not in PLACES})
    facts = {
        "bundle": bundle.name,
        "section": section,
        **read_epochs(bundle, overrides),
        "overrides": told,
        "variants": {variant.name: variant.configuration() for variant in VARIANTS},
        "datalist_sha256": hash_file(datalist)
        if datalist.is_file()
        else None,  # a missing one is named by the training
        "config_sha256": [hash_file(Path(find_config(bundle, name))) for name in ("train", "evaluate")],
        "hidiff_monai": hidiff_monai.__version__,
    }
    return json.loads(json.dumps(facts, default=str))


def require_same_settings(file: Path, facts: Mapping[str, Any]) -> None:
    """Keeps the facts, or compares them with those of the rows that are there.

    Raises:
        ValueError: if they differ.
    """
    if not file.is_file():
        keep_settings(file, facts)
        return
    mend = "name another output folder, or the same settings"
    refuse_other_settings(file, facts, f"rows of other settings cannot stand in one table: {mend}")
