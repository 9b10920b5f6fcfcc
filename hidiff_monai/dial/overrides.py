"""Keys of the configuration that a user gives `hidiff dial`: which it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACES = {
    "bundle_root": "name the bundle's folder first",
    "dataset_dir": "name the data set's folder second",
    "datalist_file": "give --datalist_file",
    "section": "give --section",
    "checkpoint": "give --checkpoint",
    "device": "give --device",
    "output_dir": "give --output",
    "model_dir": "give --checkpoint",
    "initial_weights": "give --checkpoint",
    "evaluation_dir": "give --output",
    "history_file": "leave it out, nothing reads it",
}
MEASURED = {
    "num_inference_steps": "give --steps",
    "num_samples": "give --samples",
    "sampler": "give --samplers",
    "outputs": "leave it out",
}


def require_free(overrides: Mapping[str, Any]) -> None:
    """None of the keys is one that `hidiff dial` sets itself: the value given would be told and not used.

    Args:
        overrides: keys of the configuration and their values.

    Raises:
        ValueError: names the key and the option in its place.
    """
    for key, value in overrides.items():
        mend = PLACES.get(key) or MEASURED.get(key.split("#")[-1])
        if mend is not None:
            raise ValueError(
                f"--{key} {value!r}: `hidiff dial` sets it; expected other keys of the configuration: {mend}"
            )
