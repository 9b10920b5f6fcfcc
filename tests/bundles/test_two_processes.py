"""Bundles under torchrun, two processes on the CPU: one set of weights, files of one writer, resume, errors."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

REPOSITORY = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("raw", Path(__file__).with_name("raw.py"))
assert SPEC is not None and SPEC.loader is not None
raw = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(raw)

WIDTHS = [4, 4, 4, 4, 4, 4]
TINY = {"crop_size": [64, 64], "pretrain_epochs": 1, "val_interval": 1, "batch_size": 1}
# what either process ended with
RECORD = {"+run": ["$torch.save(@network.state_dict(), @output_dir + '/rank_%d.pt' % distributed.idist.get_rank())"]}


def train_in_two(
    name: str, folder: Path, changes: dict[str, list[str]], **options: object
) -> subprocess.CompletedProcess[str]:
    """Trains in two processes, into folder/output, with changes to the configuration."""
    (folder / "changes.json").write_text(json.dumps(changes))
    configs = REPOSITORY / "bundles" / name / "configs"
    files = [str(configs / "train.json"), str(configs / "multi_gpu_train.json"), str(folder / "changes.json")]
    settings = {
        **TINY,
        "segmentor#channels": WIDTHS,
        "refiner#channels": WIDTHS,
        "bundle_root": configs.parent,
        "output_dir": folder / "output",
        **options,
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "run", "--config_file", str(files)]
    command += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=600)


@pytest.mark.parametrize("name", ["drive", pytest.param("synapse", marks=pytest.mark.slow)])
def test_two_processes_train_and_resume_one_network(name: str, tmp_path: Path) -> None:
    dataset_dir, datalist = raw.make_dataset(name, tmp_path / "data")
    data = {"dataset_dir": dataset_dir, "datalist_file": datalist}
    output = tmp_path / "output"
    for epochs in (1, 2):
        done = train_in_two(name, tmp_path, RECORD, max_epochs=epochs, **data)
        assert done.returncode == 0, done.stderr[-3000:]
        first, second = (torch.load(output / f"rank_{rank}.pt", weights_only=True) for rank in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)  # running statistics too
        state = torch.load(output / "resume" / f"resume_{epochs}.pt", weights_only=True)
        assert all(torch.equal(first[key], value) for key, value in state["network"].items())
    num_cases = 3 if name == "synapse" else 6  # slices of the one scan; two photographs, three times an epoch
    assert state["trainer"]["epoch_length"] == (num_cases + 1) // 2
    assert f"resumed from {output / 'resume' / 'resume_1.pt'}" in done.stderr + done.stdout
    rows = [row.split(",")[:2] for row in (output / "history.csv").read_text().splitlines()[1:]]
    assert rows == [["1", "pretrain"], ["2", "alternate"]]
    assert len(list((output / "tensorboard").glob("events.*"))) == 2 * 3  # a run's three writers, of one process

    parser = ConfigParser()
    parser.read_config(str(REPOSITORY / "bundles" / name / "configs" / "train.json"))
    parser["segmentor#channels"] = parser["refiner#channels"] = WIDTHS
    weights = torch.load(output / "models" / "model.pt", weights_only=True)
    parser.get_parsed_content("network_def").load_state_dict(weights, strict=True)
    assert not any("module." in key for key in weights)


def test_a_failing_process_ends_all_with_its_sentence(tmp_path: Path) -> None:
    dataset_dir, datalist = raw.make_dataset("drive", tmp_path / "data")
    spoil = "$distributed.idist.get_rank() == 1 and torch.nn.init.constant_(@network.segmentor.head.bias, float('nan'))"
    data = {"dataset_dir": dataset_dir, "datalist_file": datalist}
    done = train_in_two("drive", tmp_path, {"+initialize": [spoil]}, max_epochs=1, **data)
    assert done.returncode != 0
    report = done.stderr[done.stderr.rindex("Root Cause") :]
    assert "rank      : 1 (local_rank: 1)" in report
    assert "error: loss_segmentor is nan in epoch 1, iteration 1; expected a finite number" in report
    assert not (tmp_path / "output" / "models" / "model.pt").exists()
