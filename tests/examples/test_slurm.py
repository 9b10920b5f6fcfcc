"""The SLURM scripts on two made-up machines, and the table of what processes tell each other."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
SLURM = REPOSITORY / "examples" / "slurm"
SCRIPTS = ("train.sbatch", "predict.sbatch")
# srun of a cluster of two machines, both of them this one: starts the command on either and waits
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
"$@" & first=$!
"$@" & second=$!
wait "$first"; status=$?
wait "$second" && exit "$status"
"""
TELL = '#!/bin/bash\nprintf "%s\\n" "$@" "threads $OMP_NUM_THREADS"\n'
NETWORKS = {"segmentor#channels": [4] * 6, "refiner#channels": [4] * 6}


def write_programs(folder: Path, **programs: str) -> Path:
    folder.mkdir()
    for name, text in {"scontrol": "#!/bin/bash\necho localhost\necho other\n", **programs}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def submit(script: str, programs: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    place = {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(REPOSITORY),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "localhost,other",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "6",
    }
    command = ["bash", str(SLURM / script), *options]
    return subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **place, **environment}, text=True, capture_output=True, timeout=300
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_lacks_a_folder_says_which(script: str, tmp_path: Path) -> None:
    done = submit(script, write_programs(tmp_path / "bin"), BUNDLE="bundles/acdc")
    missing = "DATASET_DIR: is not set" if script == "train.sbatch" else "INPUT: is not set"
    assert done.returncode == 1 and missing in done.stderr


def test_one_torchrun_a_machine_meets_at_the_first(tmp_path: Path) -> None:
    programs = write_programs(tmp_path / "bin", srun=TELL)
    folders = {"BUNDLE": "bundles/acdc", "DATASET_DIR": "/a b", "OUTPUT_DIR": "/o", "SLURM_GPUS_ON_NODE": "4"}
    done = submit("train.sbatch", programs, "--max_epochs", "2", SECTION="test", **folders)
    assert done.returncode == 0, done.stderr
    lines, port = done.stdout.splitlines(), 20000 + os.getpid() % 20000
    assert lines.count("--nnodes=2") == lines.count("--nproc_per_node=4") == lines.count("threads 2") == 2
    assert f"--rdzv_endpoint=localhost:{port}" in lines and f"--rdzv_endpoint=localhost:{port + 1}" in lines
    assert lines.count("/a b") == 2 and lines[lines.index("--section") + 1] == "test"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean(script: str) -> None:
    checker = shutil.which("shellcheck")
    command = [checker, str(SLURM / script)] if checker else ["bash", "-n", str(SLURM / script)]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_traffic_is_counted_by_parameters_and_norms(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("traffic", SLURM / "traffic.py")
    assert spec is not None and spec.loader is not None
    traffic = importlib.util.module_from_spec(spec)
    sys.modules["traffic"] = traffic  # dataclasses look there
    spec.loader.exec_module(traffic)
    counted = traffic.count(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1, bias=False), torch.nn.BatchNorm2d(8)))
    assert (counted.parameters, counted.gradient_bytes) == (24 + 16, 4 * 40)
    assert counted.norm_bytes == 4 * (17 + 16) and counted.exchanges == 1 + 2 + 2
    bytes_a_second, latency_s = traffic.LINKS[8]
    assert counted.seconds(8) == pytest.approx(1.75 * (160 + 132) / bytes_a_second + 5 * latency_s)
    traffic.main()
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert names == sorted(path.name for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())


@pytest.mark.slow
def test_two_machines_predict_a_cohort(tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(REPOSITORY / "bundles" / "kvasir_seg" / "configs" / "inference.json")
    parser.update(NETWORKS)
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    (tmp_path / "in").mkdir()
    for name in "abcd":
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    options: dict[str, Any] = {"checkpoint": tmp_path / "model.pt", "device": "cpu", "image_size": [32, 32], **NETWORKS}
    folders = {"BUNDLE": "bundles/kvasir_seg", "INPUT": str(tmp_path / "in"), "OUTPUT": str(tmp_path / "out")}
    programs = write_programs(tmp_path / "bin", srun=SRUN)
    done = submit("predict.sbatch", programs, *(f"--{key}={value}" for key, value in options.items()), **folders)
    assert done.returncode == 0, done.stderr[-3000:]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["processes"] == 2 and [case["id"] for case in manifest["cases"]] == list("abcd")
    assert done.stdout.count("4 of 4 case(s) predicted") == 1
