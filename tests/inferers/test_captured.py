"""Recorded chains, on the CPU through stand-ins for CUDA graphs: equal to plain ones, never stale, never shared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from hidiff_monai.inferers import BernoulliDiffusionInferer
from hidiff_monai.inferers.acceleration import fold
from hidiff_monai.inferers.captured import CapturedHiDiff, Chain, Recorder, record_cuda_graph
from hidiff_monai.metrics import apply_temperature
from hidiff_monai.networks import HiDiff
from hidiff_monai.networks.folded_refiner import FoldedRefiner

SAMPLERS = ["hard", "ddim", "ddpm"]


class Recording:
    """Stands in for a CUDA graph: every replay writes into the same memory. Counts recordings and replays."""

    def __init__(self) -> None:
        self.recorded, self.replayed = 0, 0

    def __call__(self, chain: Chain, generator: torch.Generator) -> Chain:
        self.recorded += 1
        output = chain()

        def replay() -> torch.Tensor:
            self.replayed += 1
            return output.copy_(chain())

        return replay


def record_operations(chain: Chain, generator: torch.Generator) -> Chain:
    """Stands in for a CUDA graph: a fixed list of operations on fixed memory, without any Python of the chain."""
    return make_fx(lambda: chain())()


@pytest.fixture(params=["eager", "folded"])
def network(request: pytest.FixtureRequest, make_network: Callable[..., HiDiff]) -> HiDiff:
    network = make_network().eval()
    nn.init.normal_(network.segmentor.head.weight)  # a prior that depends on the image
    network.num_inference_steps = 3
    return network if request.param == "eager" else fold(network)


@pytest.fixture(autouse=True)
def no_grad() -> Any:
    with torch.no_grad():
        yield


def images(number: int, size: tuple[int, int] = (16, 16)) -> list[torch.Tensor]:
    return [torch.rand(2, 1, *size) for _ in range(number)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_recorded_chains_equal_plain_ones_and_belong_to_the_caller(network: HiDiff, sampler: str) -> None:
    recording = Recording()
    captured = CapturedHiDiff(network, record=recording)
    infer = BernoulliDiffusionInferer(sampler=sampler, num_samples=2, seed=3)
    batch = images(4)
    expected = [infer(image, network).clone() for image in batch]
    results = [infer(image, captured) for image in batch]
    assert (recording.recorded, recording.replayed) == (1, 3)
    for result, wanted in zip(results, expected, strict=True):  # looked at after the last: no result was overwritten
        assert torch.equal(result, wanted)
    assert not torch.equal(expected[1], expected[2])


def test_temperature_scales_what_recorded_chains_give(network: HiDiff) -> None:
    captured = CapturedHiDiff(network, record=Recording())
    plain, flat = (BernoulliDiffusionInferer(temperature=t) for t in (1.0, 1.7))
    for image in images(3):
        expected = apply_temperature(plain(image, network), 1.7)
        assert torch.equal(flat(image, captured), expected)


def test_a_chain_is_a_fixed_list_of_operations_on_fixed_memory(
    network: HiDiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the device is the CPU too, so what lies on the CPU in any case is taken out of the recording."""
    network.num_inference_steps = 2
    monkeypatch.setattr(FoldedRefiner, "require_one", lambda *_: None)
    captured = CapturedHiDiff(network, record=record_operations)
    infer = BernoulliDiffusionInferer(sampler="hard")
    for image in images(4):
        assert torch.equal(infer(image, captured), infer(image, network))
    assert captured.failure is None and all(captured.kinds.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_cuda_graphs_equal_plain_chains(network: HiDiff, sampler: str) -> None:
    network.cuda()
    captured = CapturedHiDiff(network)
    infer = BernoulliDiffusionInferer(sampler=sampler, num_samples=2, seed=3)
    batch = [image.cuda() for image in images(4)]
    results = [infer(image, captured) for image in batch]
    assert captured.failure is None and all(captured.kinds.values())
    for image, result in zip(batch, results, strict=True):
        torch.testing.assert_close(result, infer(image, network), rtol=0, atol=1e-5)


def test_a_recording_warms_up_knows_its_generator_and_gives_the_stream_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called of torch.cuda, and in which order."""
    done: list[str] = []

    def note(name: str, result: Any = None) -> Callable[..., Any]:
        return lambda *given, **named: (done.append(name), result)[1]

    @contextmanager
    def within(name: str) -> Iterator[None]:
        done.append(f"enter {name}")
        try:
            yield
        finally:
            done.append(f"leave {name}")

    stream = SimpleNamespace(wait_stream=note("wait"))
    graph = SimpleNamespace(register_generator_state=note("register"), replay=note("replay"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda given: within("stream"))
    monkeypatch.setattr(torch.cuda, "graph", lambda *given, **named: within("graph"))
    generator: Any = SimpleNamespace(device=torch.device("cuda", 0))
    replay = record_cuda_graph(note("chain", "output"), generator)
    recording = ["enter graph", "chain", "leave graph"]
    assert done == ["register", "wait", "enter stream", "chain", *recording, "leave stream", "wait"]
    done.clear()
    assert replay() == "output" and done == ["replay"]

    def fail() -> torch.Tensor:
        if done[-1] == "enter graph":
            raise RuntimeError("not permitted")
        return torch.zeros(1)

    with pytest.raises(RuntimeError, match="not permitted"):
        record_cuda_graph(fail, generator)
    assert done[-2:] == ["leave graph", "leave stream"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_chain_never_reads_a_value_from_the_device(network: HiDiff, sampler: str) -> None:
    """Tensors of the device "meta" have none: a chain that asked for one, or copied from the host, would fail here."""
    _, prior, features = network.predict_prior(images(1)[0])
    condition = network.refiner.encode_condition(images(1)[0], prior, features)
    network.to("meta")
    condition = [None if entry is None else entry.to("meta") for entry in condition]
    assert network.sample(prior.to("meta"), condition, sampler, 3, 2).shape == (2, 2, 1, 16, 16)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_generators_are_left_as_plain_calls_leave_them(network: HiDiff, sampler: str) -> None:
    network.sampler, network.num_samples = sampler, 2
    captured = CapturedHiDiff(network, record=Recording())
    image = images(1)[0]
    for given in (network, captured):  # the global generator
        torch.manual_seed(5)
        given.drawn = [given(image) for _ in range(4)]
        given.after = torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(network.drawn, captured.drawn, strict=True))
    assert torch.equal(network.after, captured.after)
    assert not torch.equal(captured.drawn[2], captured.drawn[3])


def test_every_kind_is_recorded_by_itself_and_the_oldest_goes(network: HiDiff) -> None:
    recording = Recording()
    captured = CapturedHiDiff(network, capacity=2, record=recording)
    small, large, larger = (images(1, size)[0] for size in ((16, 16), (16, 24), (24, 24)))

    def run(image: torch.Tensor, times: int = 2, **settings: Any) -> int:
        for _ in range(times):
            result = BernoulliDiffusionInferer(**{"sampler": "hard", **settings})(image, captured)
            assert torch.equal(result, BernoulliDiffusionInferer(**{"sampler": "hard", **settings})(image, network))
        return recording.recorded

    assert run(small, times=1) == 0  # met once: plain
    assert run(small) == 1
    assert run(large) == 2
    assert run(small) == 2  # both are kept
    assert run(larger) == 3  # large is the one unused for longest
    assert run(small) == 3
    assert run(large) == 4
    assert run(large, num_inference_steps=2) == 5
    assert run(large, sampler="ddim", num_samples=3, seed=1) == 6
    assert run(large[:1]) == 7
    assert len(captured.kinds) == 2


def test_where_recording_fails_chains_run_plainly_and_one_line_says_why(
    network: HiDiff, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def fail(chain: Chain, generator: torch.Generator) -> Chain:
        tried.append(chain)
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    reasons: dict[Recorder, str] = {
        record_cuda_graph: "the chain runs on cpu; expected a CUDA device",
        fail: "operation not permitted when stream is capturing",
    }
    for record, reason in reasons.items():
        captured = CapturedHiDiff(network, record=record)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for image in images(4):
                assert torch.equal(captured(image), network(image))
        assert captured.failure == reason and not captured.kinds
        (message,) = (record.message for record in caplog.records if record.name.startswith("hidiff_monai"))
        assert reason in message and "much more" not in message
    assert len(tried) == 1


def test_a_mistake_of_the_caller_is_told_as_ever(network: HiDiff) -> None:
    captured = CapturedHiDiff(network, record=Recording())
    for _ in range(3):
        with pytest.raises(ValueError, match="sampler is 'DDIM'; expected"):
            captured.sampler = "DDIM"
            captured(images(1)[0])
    assert captured.failure is None


def test_gradients_and_autocast_run_plainly_and_a_move_forgets(network: HiDiff) -> None:
    recording = Recording()
    captured = CapturedHiDiff(network, record=recording)
    image = images(1)[0]
    for _ in range(3):
        with torch.enable_grad():
            captured(image)
        with torch.autocast("cpu", torch.bfloat16):
            captured(image)
    assert recording.recorded == 0
    for _ in range(2):
        captured(image)
    assert recording.recorded == 1 and captured.kinds
    captured.float()
    assert not captured.kinds


def test_inference_mode_and_no_grad_do_not_share_buffers(network: HiDiff) -> None:
    captured, image = CapturedHiDiff(network, record=Recording()), images(1)[0]
    for _ in range(3):
        with torch.inference_mode():
            assert torch.equal(captured(image), network(image))
        assert torch.equal(captured(image), network(image))
    assert captured.failure is None and len(captured.kinds) == 2


def test_settings_of_the_network_are_taken_over(network: HiDiff) -> None:
    network.sampler, network.num_samples, network.num_inference_steps = "ddpm", 5, 2
    captured = CapturedHiDiff(network)
    assert (captured.sampler, captured.num_samples, captured.num_inference_steps) == ("ddpm", 5, 2)
    assert captured.segmentor is network.segmentor and not captured.training
