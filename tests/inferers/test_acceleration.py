"""Which form a device gets, and that every form gives what the trained network gives."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hidiff_monai import ops
from hidiff_monai.inferers import BernoulliDiffusionInferer, accelerate
from hidiff_monai.inferers.acceleration import compile_or_not
from hidiff_monai.inferers.captured import CapturedHiDiff
from hidiff_monai.metrics import apply_temperature
from hidiff_monai.networks import HiDiff
from hidiff_monai.networks.folded_refiner import FoldedRefiner
from hidiff_monai.schedulers import BernoulliScheduler

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture
def make(make_network: Callable[..., HiDiff]) -> Callable[..., HiDiff]:
    def build(**arguments: Any) -> HiDiff:
        network = make_network(**arguments).eval()
        nn.init.normal_(network.segmentor.head.weight)
        for layer in network.refiner.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):  # at 0, sums of 0 lie on the threshold
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.5, 2)
        network.sampler, network.num_samples, network.num_inference_steps = "ddim", 3, 2
        return network

    return build


def set_operators(monkeypatch: pytest.MonkeyPatch, instruction_set: str) -> None:
    status = dataclasses.replace(ops.status(), instruction_set=instruction_set)
    monkeypatch.setattr(ops, "status", lambda: status)


def masks_agree(network: HiDiff, other: HiDiff) -> bool:
    """Whether the hard chains decide at least 99 % of the pixels alike; a sign on the edge moves single ones."""
    infer, image = BernoulliDiffusionInferer(sampler="hard"), torch.rand(2, 1, 32, 32)
    return bool(((infer(image, network) > 0.5) == (infer(image, other) > 0.5)).float().mean() >= 0.99)


@pytest.mark.parametrize("instruction_set", ["avx512", "avx2"])
def test_signs_are_packed_where_the_operators_are_compiled(
    make: Callable[..., HiDiff], monkeypatch: pytest.MonkeyPatch, instruction_set: str
) -> None:
    network = make()
    set_operators(monkeypatch, instruction_set)
    accelerated = accelerate(network, CPU)
    assert accelerated.form == f"packed ({instruction_set})"
    assert type(accelerated.network.refiner).__name__ == "PackedRefiner"
    assert masks_agree(accelerated.network, network)


@pytest.mark.parametrize(("binarized", "instruction_set"), [(True, "torch"), (False, "torch"), (False, "avx512")])
def test_the_refiner_is_folded_where_they_are_not_or_have_nothing_to_pack(
    make: Callable[..., HiDiff], monkeypatch: pytest.MonkeyPatch, binarized: bool, instruction_set: str
) -> None:
    network = make(binarized=binarized)
    set_operators(monkeypatch, instruction_set)
    accelerated = accelerate(network, CPU)
    assert accelerated.form == "folded" and isinstance(accelerated.network.refiner, FoldedRefiner)
    assert not isinstance(accelerated.network, CapturedHiDiff)
    assert masks_agree(accelerated.network, network)


@pytest.mark.parametrize(
    ("binarized", "dtype", "form"),
    [
        (True, torch.float32, "folded"),
        (True, torch.float16, "folded (float16)"),
        (True, torch.bfloat16, "folded (bfloat16)"),
        (False, torch.bfloat16, "folded"),
    ],
)
def test_cuda_gets_recorded_chains_that_run_without_it_too(
    make: Callable[..., HiDiff], binarized: bool, dtype: torch.dtype, form: str
) -> None:
    network = make(binarized=binarized)
    accelerated = accelerate(network, CUDA, dtype)
    assert accelerated.form == form and isinstance(accelerated.network, CapturedHiDiff)
    weights = [layer.weight for layer in network.segmentor.modules() if isinstance(layer, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    for _ in range(3):
        assert masks_agree(accelerated.network, network)
    assert accelerated.network.failure == "the chain runs on cpu; expected a CUDA device"


def test_settings_are_taken_over_and_the_network_given_stays_as_it_is(
    make: Callable[..., HiDiff], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    refiner = network.refiner
    for device, instruction_set in ((CPU, "avx512"), (CPU, "torch"), (CUDA, "torch")):
        set_operators(monkeypatch, instruction_set)
        other = accelerate(network, device, compiles=True).network
        assert (other.sampler, other.num_samples, other.num_inference_steps) == ("ddim", 3, 2)
        assert not other.training and other.exclusive == network.exclusive
    assert network.refiner is refiner and list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_other_devices_and_other_refiners_run_as_they_are(make: Callable[..., HiDiff]) -> None:
    network = make()
    assert accelerate(network, MPS) == (network, "eager")
    custom = HiDiff(network.segmentor, nn.Identity(), BernoulliScheduler())  # type: ignore[arg-type]
    assert accelerate(custom, CUDA) == (custom, "eager")


def test_a_compiled_function_gives_what_it_gives_and_falls_back_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    x = torch.arange(3)
    assert compile_or_not(double, "toy", backend="eager")(x).tolist() == [0, 2, 4]
    call = compile_or_not(double, "toy", backend=broken)
    with caplog.at_level(logging.WARNING, logger="hidiff_monai"):
        assert call(x).tolist() == [0, 2, 4]
        assert call(x + 1).tolist() == [2, 4, 6]
    (message,) = (record.message for record in caplog.records if record.name.startswith("hidiff_monai"))
    assert message.startswith("the toy is not compiled (BackendCompilerFailed")


def test_lack_of_memory_is_no_failure_of_the_compiler() -> None:
    calls = []

    def full(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        raise torch.OutOfMemoryError("CUDA out of memory")

    call = compile_or_not(full, "toy", backend="eager")
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            call(torch.ones(1))
    assert len(calls) == 2


def test_temperature_scales_the_form_that_this_cpu_gets(make: Callable[..., HiDiff]) -> None:
    accelerated, image = accelerate(make(), CPU).network, torch.rand(2, 1, 32, 32)
    plain, flat = (BernoulliDiffusionInferer(sampler="hard", temperature=t)(image, accelerated) for t in (1.0, 1.7))
    assert torch.equal(flat, apply_temperature(plain, 1.7)) and not torch.equal(flat, plain)
