"""Bundles of tiny width behind a real MONAI Label server, started as the documentation says."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

REPOSITORY = Path(__file__).parents[2]
BUNDLES = sorted(path.name for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())
START_S = 120  # what a server may take to answer
SPEC = importlib.util.spec_from_file_location("raw", REPOSITORY / "tests" / "bundles" / "raw.py")
assert SPEC is not None and SPEC.loader is not None
raw = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(raw)


def write_tiny_bundle(name: str, folder: Path) -> Path:
    """A copy of a bundle with a network of width 4 and random weights in models/model.pt."""
    bundle = folder / name
    shutil.copytree(REPOSITORY / "bundles" / name, bundle, ignore=shutil.ignore_patterns("output*", "*.pt", "*.ts"))
    for config in ("train", "inference"):
        file = bundle / "configs" / f"{config}.json"
        content = json.loads(file.read_text())
        content["segmentor"]["channels"] = content["refiner"]["channels"] = [4] * 6
        content["image_size" if "image_size" in content else "crop_size"] = [64, 64]
        file.write_text(json.dumps(content))
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():  # a prior about the bundle's threshold, so that its masks hold both values
        network.segmentor.head.bias += torch.logit(torch.tensor(parser.get("threshold", 0.5)))
    torch.nn.init.normal_(network.refiner.correction.weight, std=0.1)  # at zero, the refiner would return the prior
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    torch.save(
        {"segmentor": {}}, bundle / "models" / "m.pt"
    )  # MONAI Label's own application would take the shorter name
    return bundle


def write_studies(name: str, folder: Path) -> tuple[list[list[Path]], list[Path]]:
    """Images of two patients as they would lie in a folder of studies, and their labels elsewhere.

    Returns:
        Each patient's images, one a channel, and the label of each.
    """
    studies = folder / "studies"
    studies.mkdir()
    dataset_dir, _ = raw.make_dataset(name, folder / "made")
    source = folder / "made" / "raw" if name in raw.VOLUMES else dataset_dir
    patterns = {
        "acdc": ("**/patient00[12]_frame01.nii.gz", "_frame01", "_frame01_gt"),
        "synapse": ("img/img000[15].nii.gz", "img/img", "label/label"),
        "brats": ("**/*0000[01]_flair.nii.gz", "_flair", "_seg"),
    }
    pattern, image_part, label_part = patterns.get(name, ("[01].png", ".png", "_mask.png"))
    found = sorted(source.glob(pattern))
    labels = [Path(str(file).replace(image_part, label_part)) for file in found]
    groups = [sorted(set(file.parent.glob("*.nii.gz")) - {*labels}) if name == "brats" else [file] for file in found]
    return [[Path(shutil.copy(file, studies)) for file in files] for files in groups], labels


def one_thread() -> dict[str, str]:
    """The environment of every process whose masks are compared: more threads round in another order."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@contextmanager
def serve(bundle: Path, studies: Path | str, *options: str) -> Iterator[tuple[str, Path]]:
    """Runs `make label` until it answers; gives its address and the file with what it prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = bundle / "server.log"
    command = ["make", "--no-print-directory", "label", f"BUNDLE={bundle}", f"STUDIES={studies}", f"PORT={port}"]
    command += [f"OPTIONS={' '.join(options)}"] if options else []
    environment = {**one_thread(), "MONAI_LABEL_SESSION_PATH": str(bundle / "sessions")}
    with open(log, "w") as stream:
        server = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        _wait(server, port, log)
        yield f"http://127.0.0.1:{port}", log
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"no server within {START_S} s: {log.read_text()[-3000:]}")


class Served:
    """A server of one bundle, with two studies and their labels."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.is_volume = name in raw.VOLUMES
        self.bundle = write_tiny_bundle(name, folder)
        self.images, self.labels = write_studies(name, folder)
        self.studies = folder / "studies"
        self.ids = [files[0].name.removesuffix(".nii.gz").removesuffix(".png") for files in self.images]
        names: dict[str, Any] = json.loads((self.bundle / "configs" / "metadata.json").read_text())
        channels = names["network_data_format"]["outputs"]["pred"]["channel_def"]
        self.names = [channels[key] for key in sorted(channels, key=int) if channels[key] != "background"]


@pytest.fixture(scope="module", params=BUNDLES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(request.param, tmp_path_factory.mktemp(request.param))
    with serve(made.bundle, made.studies) as (address, log):
        made.address, made.log = address, log
        yield made
