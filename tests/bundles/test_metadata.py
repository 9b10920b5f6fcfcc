"""Every bundle's metadata.json: valid without the network, and true of the configuration beside it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import verify_metadata, verify_net_in_out

import hidiff_monai

REPOSITORY = Path(__file__).parents[2]
BUNDLES = sorted(path for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())
RULES = REPOSITORY / "hidiff_monai" / "sharing" / "metadata_rules.json"

pytestmark = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def read(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def verify(tmp_path: Path) -> Callable[[dict[str, Any]], None]:
    """MONAI's own check, which downloads no schema where the file is there already."""
    rules = shutil.copy(RULES, tmp_path / "rules.json")

    def run(metadata: dict[str, Any]) -> None:
        (tmp_path / "metadata.json").write_text(json.dumps(metadata))
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(rules))

    return run


def test_metadata_is_valid(bundle: Path, verify: Callable[[dict[str, Any]], None]) -> None:
    metadata = read(bundle, "metadata")
    verify(metadata)
    assert metadata["version"] in metadata["changelog"]
    for key in ("task", "network_data_format", "copyright"):
        with pytest.raises(ValueError, match="Failed validating"):
            verify({name: value for name, value in metadata.items() if name != key})
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = "1"
    with pytest.raises(ValueError, match="Failed validating"):
        verify(metadata)


def test_versions_are_those_tested(bundle: Path) -> None:
    metadata = read(bundle, "metadata")
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [re.fullmatch(r"([\w.-]+)==([\w.]+)(; .+)?", line) for line in lines if line and line[0] != "#"]
    tested = {(pin[1], pin[2]) for pin in pins if pin} | {("hidiff-monai", hidiff_monai.__version__)}
    claimed = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    versions = metadata["required_packages_version"] | {name: metadata[key] for name, key in claimed.items()}
    assert versions.items() <= tested


def test_metadata_is_true_of_the_training(bundle: Path) -> None:
    metadata, train, evaluate = (read(bundle, name) for name in ("metadata", "train", "evaluate"))
    image = metadata["network_data_format"]["inputs"]["image"]
    mask = metadata["network_data_format"]["outputs"]["pred"]
    assert image["num_channels"] == train["segmentor"]["in_channels"] == train["refiner"]["image_channels"]
    assert mask["num_channels"] == train["segmentor"]["num_targets"] == train["refiner"]["num_targets"]
    for maps in (image, mask):
        assert list(maps["channel_def"]) == [str(channel) for channel in range(maps["num_channels"])]
    writer = next(item for item in evaluate["validate#handlers"] if "target_names" in item)
    background = ["background"] if train["network_def"].get("exclusive") else []
    assert list(mask["channel_def"].values()) == background + writer["target_names"]
    named = ", ".join(f"{number} {name}" for number, name in enumerate(mask["channel_def"].values()))
    assert metadata["label_classes"] == named if background else mask["channel_def"]["0"] in metadata["label_classes"]
    assert image["value_range"] == ([0, 1] if "intensity_window" in train else [])
    for bound in train.get("intensity_window", []):
        assert str(bound) in metadata["image_classes"]
    assert mask["value_range"] == [0, 1]
    is_by_windows = "SlidingWindowInferer" in json.dumps(train["validate"]["inferer"])
    assert image["is_patch_data"] is mask["is_patch_data"] is is_by_windows


@pytest.mark.parametrize("n", [1, 3])
def test_network_takes_and_gives_what_the_metadata_says(bundle: Path, n: int) -> None:
    configs = bundle / "configs"
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
    verify_net_in_out("network_def", **files, device="cpu", n=n)


def test_what_is_exported_and_inferred_takes_the_steps_that_are_evaluated(bundle: Path) -> None:
    inference, steps = read(bundle, "inference"), read(bundle, "evaluate")["num_inference_steps"]
    assert inference["num_inference_steps"] == steps
    inferer = inference["inferer"].get("inferer", inference["inferer"])
    assert inferer["num_inference_steps"] == inference["network_def"]["num_inference_steps"] == "@num_inference_steps"
