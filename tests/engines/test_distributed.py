"""Two gloo processes against one: averaged gradients, shared weights and statistics, dealt cases."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from hidiff_monai.engines import distributed
from hidiff_monai.engines.batch_norm import synchronise_batch_norm

REPOSITORY = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("two_processes.py")
SPEC = importlib.util.spec_from_file_location("two_processes", SCRIPT)
assert SPEC is not None and SPEC.loader is not None
two_processes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(two_processes)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What either process saved."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", SCRIPT, folder]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def trained_alone(steps: int) -> dict[str, torch.Tensor]:
    """Pre-training in one process that accumulates over the mini-batches that two processes had at the same time."""
    shares = [two_processes.make_batches(10 + rank, steps) for rank in range(2)]
    batches = [batch for pair in zip(*shares, strict=True) for batch in pair]
    network = two_processes.make_network(2)
    return two_processes.train(network, batches, two_processes.PRETRAINING, accumulation_steps=2)


def is_statistic(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_averaged_gradients_are_those_of_the_joint_batch(ranks: list[dict[str, Any]]) -> None:
    expected = two_processes.gradients_of(two_processes.convolution(), two_processes.joint_images())
    for rank in ranks:
        torch.testing.assert_close(rank["gradients"], expected)
    assert all(map(torch.equal, ranks[0]["gradients"], ranks[1]["gradients"]))


def test_an_infinity_reaches_every_process(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["infinity"].tolist() == [[1.0, float("inf")]]


def test_two_processes_train_as_one_that_accumulates(ranks: list[dict[str, Any]]) -> None:
    alone = trained_alone(2)
    for key, value in alone.items():
        if not is_statistic(key):
            torch.testing.assert_close(ranks[0]["pretrained"][key], value)
    start = two_processes.make_network(2).state_dict()
    assert any(not torch.equal(alone[key], value) for key, value in start.items() if not is_statistic(key))


@pytest.mark.parametrize("run", ["pretrained", "alternated"])
def test_weights_stay_equal_though_data_and_noise_differ(run: str, ranks: list[dict[str, Any]]) -> None:
    first, second = (rank[run] for rank in ranks)
    assert all(torch.equal(first[key], second[key]) for key in first if not is_statistic(key))
    means = [key for key in first if key.startswith("segmentor") and key.endswith("running_mean")]
    assert means and any(not torch.equal(first[key], second[key]) for key in means)  # each saw other images
    start = two_processes.make_network(2).state_dict()
    moved = {key.split(".")[0] for key in start if not is_statistic(key) and not torch.equal(first[key], start[key])}
    assert moved == ({"segmentor"} if run == "pretrained" else {"segmentor", "refiner"})


def test_a_replica_has_the_weights_of_the_first_process(ranks: list[dict[str, Any]]) -> None:
    expected = two_processes.make_network(0).state_dict()
    for rank in ranks:
        assert list(rank["replica"]) == list(expected)  # no key is prefixed
        assert all(torch.equal(rank["replica"][key], value) for key, value in expected.items())


@pytest.mark.parametrize(("kind", "tolerance"), [("real-valued", 2e-6), ("binarized", 1e-12)])
def test_two_processes_have_the_losses_and_weights_of_one(
    kind: str, tolerance: float, ranks: list[dict[str, Any]]
) -> None:
    """Same joint mini-batches, same draws: BatchNorm, both Dice losses, gradients and clipping are those of all.

    One process normalises as torch does; where signs are taken, in which a rounding makes a step, as the two do.
    """
    network = two_processes.network_without_ties(kind == "binarized")
    if kind == "binarized":
        network = synchronise_batch_norm(network)
    losses, weights = two_processes.curve(network, slice(None))
    assert len(losses["loss_segmentor"]) == 6 and len(losses["loss_refiner"]) == 3
    for rank in ranks:
        found, state = rank[kind]
        for key, values in losses.items():
            assert found[key] == pytest.approx(values, rel=tolerance)
        assert list(state) == list(weights)
        for key, value in weights.items():
            torch.testing.assert_close(state[key], value, rtol=100 * tolerance, atol=tolerance)
    first, second = (rank[kind][1] for rank in ranks)
    assert all(torch.equal(first[key], value) for key, value in second.items())  # running statistics too


def test_rows_of_all_processes_stand_in_the_order_of_the_cases(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert [row["case"] for row in rank["rows"]] == ["a", "a", "b", "b", "c", "c"]
        assert [row["method"] for row in rank["rows_of_one"]] == ["prior", "refined"]
    assert [rank["positions"] for rank in ranks] == [[0, 2], [1]]


def test_synchronised_batch_norm_keeps_keys_and_values() -> None:
    network, image = two_processes.make_network(0).eval(), torch.rand(1, 1, 16, 16)
    before, expected = network.state_dict(), network(image)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # what `replicate` does on a GPU
    assert not any(type(module) is nn.BatchNorm2d for module in converted.modules())
    assert list(converted.state_dict()) == list(before)
    assert torch.equal(converted(image), expected)


def test_running_statistics_are_averaged_and_counts_left(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["statistics"]["running_mean"].tolist() == [0.5, 10.5]
        assert rank["statistics"]["running_var"].tolist() == [1, 1]
        assert rank["statistics"]["num_batches_tracked"] == 0


def test_every_process_trains_another_share_in_every_epoch(ranks: list[dict[str, Any]]) -> None:
    for epoch in range(2):
        shares = [rank["training"][epoch] for rank in ranks]
        assert [len(share) for share in shares] == [3, 3]
        assert set(shares[0]) | set(shares[1]) == set(range(5))
    assert ranks[0]["training"][0] != ranks[0]["training"][1]


def test_every_case_is_validated_once(ranks: list[dict[str, Any]]) -> None:
    assert [rank["validation"] for rank in ranks] == [[0, 2, 4], [1, 3]]
    assert [rank["single_case"] for rank in ranks] == [[0], [0]]


def test_draws_differ_and_the_first_process_has_those_of_a_single_one(ranks: list[dict[str, Any]]) -> None:
    numbers, number = two_processes.draws_of_epoch(4)
    assert torch.equal(ranks[0]["draws"][0], numbers) and ranks[0]["draws"][1] == number
    assert not torch.equal(ranks[1]["draws"][0], numbers) and ranks[1]["draws"][1] != number


def test_processes_that_resume_apart_are_refused(ranks: list[dict[str, Any]]) -> None:
    assert all("the processes stand after epochs [3, 4]" in rank["error"] for rank in ranks)


def test_health_is_judged_over_all_processes(ranks: list[dict[str, Any]]) -> None:
    assert not any(rank["bad_epochs"] for rank in ranks)


def test_one_process_writes(ranks: list[dict[str, Any]]) -> None:
    assert [rank["writes"] for rank in ranks] == [True, False]


def test_without_torchrun_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="RANK is not set; expected a process that torchrun started: run `torchrun"):
        distributed.join_processes()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="process 3 on this machine has no GPU of its own, there are 2"):
        distributed.join_processes()


def test_a_single_process_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    network(torch.rand(3, 2)).sum().backward()
    before = [parameter.grad.clone() for parameter in network.parameters()]  # type: ignore[union-attr]
    distributed.average_gradients(network)
    distributed.average_statistics(network)
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(network.parameters(), before, strict=True))
    distributed.require_same_epoch(Engine(lambda *_: None))
    assert distributed.is_first()
