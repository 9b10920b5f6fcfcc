"""Bundles under torchrun, two processes on the CPU: one set of weights, files of one writer, resume, scores, errors."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

REPOSITORY = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("raw", Path(__file__).with_name("raw.py"))
assert SPEC is not None and SPEC.loader is not None
raw = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(raw)

WIDTHS = [4, 4, 4, 4, 4, 4]
TINY = {"pretrain_epochs": 1, "max_epochs": 2, "val_interval": 1, "batch_size": 1}
# what either process ended with
RECORD = {"+run": ["$torch.save(@network.state_dict(), @output_dir + '/rank_%d.pt' % distributed.idist.get_rank())"]}
KILL = {
    "+imports": ["$import os", "$import signal", "$from ignite.engine import Events"],
    "+initialize": [
        "$distributed.idist.get_rank() == 1 and @train#trainer.add_event_handler("
        "Events.ITERATION_COMPLETED(once=%d), lambda: os.kill(os.getpid(), signal.SIGKILL))"
    ],
}
SPOIL = {
    "+initialize": [
        "$distributed.idist.get_rank() == 1 and torch.nn.init.constant_(@network.segmentor.head.bias, float('nan'))"
    ]
}
SAME_IMAGES = {"train#augmentation": []}


def run_in_two(
    name: str, files: list[str], folder: Path, changes: dict[str, list[str]], **options: object
) -> subprocess.CompletedProcess[str]:
    """Runs configurations of a bundle in two processes, into folder/output, with changes to them."""
    (folder / "changes.json").write_text(json.dumps(changes))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "run"]
    command += ["--config_file", str([*config_files(name, files), str(folder / "changes.json")])]
    settings = settings_of(name, folder / "output", **options)
    command += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=600)


def run_in_one(name: str, files: list[str], output: Path, changes: dict[str, Any], **options: object) -> None:
    """The same in this process."""
    settings = settings_of(name, output, **options)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    workflow = ConfigWorkflow(
        config_files(name, files),
        meta_file=str(REPOSITORY / "bundles" / name / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **{**settings, **changes},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def config_files(name: str, files: list[str]) -> list[str]:
    return [str(REPOSITORY / "bundles" / name / "configs" / f"{file}.json") for file in files]


def settings_of(name: str, output: Path, **options: object) -> dict[str, Any]:
    root = REPOSITORY / "bundles" / name
    known = json.loads((root / "configs" / "train.json").read_text())
    widths = {"segmentor#channels": WIDTHS, "refiner#channels": WIDTHS}
    size = {"image_size" if "image_size" in known else "crop_size": [64, 64]}
    repeats = {"repeats_per_epoch": 3} if "repeats_per_epoch" in known else {}
    return {**TINY, **widths, **size, **repeats, "bundle_root": root, "output_dir": output, **options}


def read_losses(output: Path) -> list[list[float]]:
    """Losses and scores of the pre-training, an epoch a row."""
    with open(output / "history.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["phase"] == "pretrain"]
    return [[float(row[key]) for key in ("loss_segmentor", "val_dice_prior")] for row in rows]


@pytest.mark.parametrize("name", ["drive", pytest.param("synapse", marks=pytest.mark.slow)])
def test_two_processes_train_one_network_and_go_on_after_one_was_killed(
    name: str, tmp_path: Path, torchrun_of_one: Callable[[], AbstractContextManager[None]]
) -> None:
    dataset_dir, datalist = raw.make_dataset(name, tmp_path / "data")
    data = {"dataset_dir": dataset_dir, "datalist_file": datalist}
    output, files = tmp_path / "output", ["train", "multi_gpu_train"]
    num_cases = 3 if name == "synapse" else 6  # slices of the one scan; two photographs, three times an epoch
    epoch_length = (num_cases + 1) // 2
    kill = {**KILL, "+initialize": [KILL["+initialize"][0] % (epoch_length + 1)]}
    killed = run_in_two(name, files, tmp_path, {**SAME_IMAGES, **kill}, **data)
    assert killed.returncode != 0
    report = killed.stderr[killed.stderr.rindex("Root Cause") :]
    assert "rank      : 1 (local_rank: 1)" in report and "Signal 9 (SIGKILL)" in report
    state = torch.load(output / "resume" / "resume_1.pt", weights_only=True)
    assert state["trainer"] == {"epoch": 1, "epoch_length": epoch_length}
    assert not list(output.rglob("*.tmp"))

    if num_cases % 2 == 0:  # else two processes take a case twice
        alone = {**SAME_IMAGES, "batch_size": 2, "max_epochs": 1}
        with torchrun_of_one():
            run_in_one(name, files, tmp_path / "alone", alone, **data)
        assert read_losses(output) == [pytest.approx(row, rel=1e-4) for row in read_losses(tmp_path / "alone")]

    done = run_in_two(name, files, tmp_path, {**SAME_IMAGES, **RECORD}, **data)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resumed from {output / 'resume' / 'resume_1.pt'}" in done.stderr + done.stdout
    first, second = (torch.load(output / f"rank_{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)  # running statistics too
    state = torch.load(output / "resume" / "resume_2.pt", weights_only=True)
    assert all(torch.equal(first[key], value) for key, value in state["network"].items())
    rows = [row.split(",")[:2] for row in (output / "history.csv").read_text().splitlines()[1:]]
    assert rows == [["1", "pretrain"], ["2", "alternate"]]
    assert len(list((output / "tensorboard").glob("events.*"))) == 2 * 3  # a run's three writers, of one process

    network = make_network(name)
    weights = torch.load(output / "models" / "model.pt", weights_only=True)
    network.load_state_dict(weights, strict=True)
    assert not any("module." in key for key in weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["acdc", "brats", "chase_db1", "cvc_clinicdb", "kvasir_seg"])
def test_the_other_bundles_train_in_two_processes(name: str, tmp_path: Path) -> None:
    dataset_dir, datalist = raw.make_dataset(name, tmp_path / "data")
    data = {"dataset_dir": dataset_dir, "datalist_file": datalist}
    done = run_in_two(name, ["train", "multi_gpu_train"], tmp_path, RECORD, **data)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / "output" / f"rank_{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    make_network(name).load_state_dict(torch.load(tmp_path / "output" / "models" / "model.pt", weights_only=True))


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("drive", "training"),
        pytest.param("acdc", "training", marks=pytest.mark.slow),
        pytest.param("synapse", "test", marks=pytest.mark.slow),  # fewer cases than processes
    ],
)
def test_two_processes_evaluate_as_one(name: str, section: str, tmp_path: Path) -> None:
    dataset_dir, datalist = raw.make_dataset(name, tmp_path / "data")
    torch.save(make_network(name).state_dict(), tmp_path / "model.pt")
    options = {"dataset_dir": dataset_dir, "datalist_file": datalist, "section": section, "num_inference_steps": 2}
    options["checkpoint"] = tmp_path / "model.pt"
    run_in_one(name, ["train", "evaluate"], tmp_path / "alone", {}, **options)
    done = run_in_two(name, ["train", "evaluate", "multi_gpu_evaluate"], tmp_path, {}, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("report: ") == 1 and done.stdout.count("mean ± sd:") == 1
    alone, joint = (tmp_path / folder / f"evaluation_{section}" for folder in ("alone", "output"))
    written = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert sorted(path.relative_to(joint) for path in joint.rglob("*") if path.is_file()) == written
    for file in written:
        if file.suffix in (".csv", ".txt", ".json") and file.name != "manifest.json":
            assert (joint / file).read_text() == (alone / file).read_text(), file
        if file.suffix == ".npz":
            with np.load(alone / file) as expected, np.load(joint / file) as found:
                for key, value in expected.items():
                    np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-6)  # other numbers of threads


def test_a_failing_process_ends_all_with_its_sentence(tmp_path: Path) -> None:
    dataset_dir, datalist = raw.make_dataset("drive", tmp_path / "data")
    data = {"dataset_dir": dataset_dir, "datalist_file": datalist}
    done = run_in_two("drive", ["train", "multi_gpu_train"], tmp_path, SPOIL, max_epochs=1, **data)
    assert done.returncode != 0
    report = done.stderr[done.stderr.rindex("Root Cause") :]
    assert "error: loss_segmentor is nan in epoch 1, iteration 1; expected a finite number" in report
    assert not (tmp_path / "output" / "models" / "model.pt").exists()


def make_network(name: str) -> torch.nn.Module:
    parser = ConfigParser()
    parser.read_config(config_files(name, ["train"]))
    parser["segmentor#channels"] = parser["refiner#channels"] = WIDTHS
    torch.manual_seed(0)
    return parser.get_parsed_content("network_def")
