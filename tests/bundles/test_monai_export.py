"""MONAI's own export verbs on every bundle, from the repository's root and from inside the bundle's folder."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hidiff_monai.export.agreement import run_artefact
from hidiff_monai.networks import HiDiff
from hidiff_monai.prediction.model import build_part, parse_config, read_config

REPOSITORY = Path(__file__).parents[2]
BUNDLES = sorted(path.name for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())
TINY = {"segmentor#channels": [4] * 3, "refiner#channels": [4] * 3, "num_inference_steps": 1}
Export = Callable[..., tuple[HiDiff, Path]]


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Export:
    """A verb of ``python -m monai.bundle`` on a tiny untrained network, in this process."""

    def call(verb: str, name: str, is_inside: bool, file: str, **options: Any) -> tuple[HiDiff, Path]:
        parser = parse_config(read_config(REPOSITORY / "bundles" / name, "inference.json"), TINY, {"device": "cpu"})
        network = build_part(parser, "network_def", TINY).eval()
        torch.save(network.state_dict(), tmp_path / "model.pt")
        configs = "configs" if is_inside else f"bundles/{name}/configs"
        places = {"ckpt_file": tmp_path / "model.pt", "filepath": tmp_path / file, "net_id": "network_def"}
        files = {"config_file": f"{configs}/inference.json", "meta_file": f"{configs}/metadata.json"}
        arguments = [f"--{key}={value}" for key, value in {**places, **files, **TINY, **options}.items()]
        monkeypatch.chdir(REPOSITORY / "bundles" / name if is_inside else REPOSITORY)
        monkeypatch.setattr(sys, "argv", ["monai.bundle", verb, *arguments])
        runpy.run_module("monai.bundle", run_name="__main__")
        return network, tmp_path / file

    return call


@torch.no_grad()
def assert_runs_alone(network: HiDiff, file: Path, sizes: list[tuple[int, ...]], tolerance: float) -> None:
    """In a process without the package, on batches of these sizes."""
    batches = [torch.randn(size[0], network.refiner.image_channels, *size[1:]) for size in sizes]
    for found, batch in zip(run_artefact(file, batches), batches, strict=True):
        np.testing.assert_allclose(found, network(batch).numpy(), rtol=0, atol=tolerance)


def slow_but(name: str, is_inside: bool) -> list[Any]:
    """Every bundle in both places; one pair alone is tried in every run."""
    pairs = [(bundle, place) for bundle in BUNDLES for place in (False, True)]
    return [pytest.param(*pair, marks=() if pair == (name, is_inside) else pytest.mark.slow) for pair in pairs]


@pytest.mark.parametrize(("name", "is_inside"), slow_but("acdc", True))
def test_ckpt_export(name: str, is_inside: bool, export: Export) -> None:
    network, file = export("ckpt_export", name, is_inside, "model.ts")
    assert_runs_alone(network, file, [(1, 32, 48), (2, 33, 45)], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("is_inside", [False, True], ids=["root", "inside"])
@pytest.mark.parametrize("name", BUNDLES)
def test_onnx_export(name: str, is_inside: bool, export: Export) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    kwargs = {"input_names": ["image"], "output_names": ["probability"], "dynamic_axes": {"image": {0: "batch"}}}
    metadata = read_config(REPOSITORY / "bundles" / name, "metadata.json")
    shape = [2, metadata["network_data_format"]["inputs"]["image"]["num_channels"], 32, 48]
    network, file = export("onnx_export", name, is_inside, "model.onnx", input_shape=shape, converter_kwargs=kwargs)
    assert_runs_alone(network, file, [(2, 32, 48), (3, 32, 48)], 1e-4)
