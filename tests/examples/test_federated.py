"""examples/federated with NVIDIA FLARE's simulator: two sites that share DRIVE, each with photographs of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from hidiff_monai.recipes import build_federated_network

REPOSITORY = Path(__file__).parents[2]
BUNDLE = REPOSITORY / "bundles" / "drive"
REQUIREMENT = "nvflare>=2.7,<2.8"
NETWORK = {"segmentor#channels": [4, 4, 4, 4, 4, 4], "refiner#channels": [4, 4, 4, 4, 4, 4]}
TINY = {"crop_size": [64, 64], "repeats_per_epoch": 1, "pretrain_epochs": 1, "val_interval": 5}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python_with_flare() -> str:
    """This interpreter where it has FLARE; else one outside the repository, made once, that borrows these packages."""
    if find_spec("nvflare") is not None:
        return sys.executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hidiff_monai" / f"nvflare-{version}"
    python = home / "bin" / "python"
    if not (home / ".installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        packages = next(home.glob("lib/python*/site-packages"))
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = [str(python), "-m", "pip", "install", "-q", "-c", str(REPOSITORY / "constraints.txt"), REQUIREMENT]
        subprocess.run(install, check=True, timeout=900)
        (home / ".installed").touch()
    return str(python)


@pytest.fixture
def sites(drive_dir: Path, tmp_path: Path) -> list[Path]:
    """A file of settings for each of two sites, with two photographs to train on and one to validate."""
    content = json.loads((REPOSITORY / "data_lists" / "drive.json").read_text())
    files = []
    for number in range(2):
        folder = tmp_path / f"site {number}, ours"
        folder.mkdir()
        own = {"training": content["training"][2 * number :][:2], "validation": content["validation"][number:][:1]}
        (folder / "datalist.json").write_text(json.dumps({**content, **own, "test": []}))
        settings = {"dataset_dir": drive_dir, "datalist_file": folder / "datalist.json", "output_dir": folder / "out"}
        files.append(folder / "settings.json")
        files[-1].write_text(json.dumps({key: os.path.relpath(value, tmp_path) for key, value in settings.items()}))
    return files


def test_two_sites_train_one_network(python_with_flare: str, sites: list[Path], tmp_path: Path) -> None:
    (tmp_path / "common.json").write_text(json.dumps({**NETWORK, **TINY}))
    arguments = ["--bundle", BUNDLE, "--sites", *sites, "--common", tmp_path / "common.json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python_with_flare, REPOSITORY / "examples/federated/simulate.py", *arguments, "--workspace", tmp_path / "ws"],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("Aggregated 2/2 results") == 2
    model = tmp_path / "ws" / "drive.pt"
    assert done.stdout.splitlines()[-1] == f"model: {model}"
    network = build_federated_network(BUNDLE, NETWORK)
    network.load_state_dict(torch.load(model, weights_only=True), strict=True)
    for workspace, words in (("ws", "drive.pt is there already"), ("w s", "has a space, at which FLARE splits")):
        line = [python_with_flare, REPOSITORY / "examples/federated/simulate.py", *arguments, "--workspace", workspace]
        refused = subprocess.run(line, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120)
        assert refused.returncode != 0 and words in refused.stderr
    for site in sites:
        rows = [row.split(",") for row in (site.parent / "out" / "history.csv").read_text().splitlines()[1:]]
        assert [row[1] for row in rows] == ["pretrain", "alternate"]
