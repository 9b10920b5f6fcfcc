"""Layout, compilation and scaler: faster steps, the same training and the same checkpoint."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hidiff_monai.engines import AlternateCollaborativeTrainer, acceleration
from hidiff_monai.engines.acceleration import (
    compile_forwards,
    gradient_scaler,
    lay_channels_last,
    prefers_channels_last,
)


def train(make_network: Callable, make_trainer: Callable, make_batches: Callable, **options: Any) -> Any:
    """Three mini-batches on a real-valued network: rounding flips signs of a binarized one."""
    network = make_network(binarized=False, num_targets=options.pop("num_targets", 1))
    optimizers = {
        f"{name}_optimizer": torch.optim.SGD(getattr(network, name).parameters(), 0.01)
        for name in ("segmentor", "refiner")
    }
    trainer = make_trainer(network, [], **optimizers, **options)
    batches = make_batches(3)
    for batch in batches:
        batch["label"] = batch["label"].repeat(1, trainer.network.refiner.num_targets, 1, 1)
    trainer.data_loader, trainer.state.epoch_length = batches, len(batches)
    torch.manual_seed(7)
    trainer.run()
    return trainer


@pytest.mark.parametrize("num_targets", [1, 2])
def test_the_layout_changes_neither_losses_nor_weights(
    num_targets: int, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    plain, fast = (
        train(make_network, make_trainer, make_batches, num_targets=num_targets, channels_last=channels_last)
        for channels_last in (False, True)
    )
    for key in ("loss_refiner", "loss_segmentor", "prior", "pred"):
        torch.testing.assert_close(fast.state.output[key], plain.state.output[key], atol=1e-4, rtol=1e-4)
    assert fast.network.refiner.correction.weight.is_contiguous(memory_format=torch.channels_last)
    assert plain.network.segmentor.head.weight.is_contiguous()


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_photograph_is_laid_as_the_weights_are(
    channels_last: bool, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    seen = []
    network = make_network(image_channels=3)
    network.segmentor.stem.register_forward_hook(lambda module, inputs, output: seen.extend([*inputs, output]))
    batches = make_batches(1)
    photographs = batches[0]["image"].repeat(1, 3, 1, 1)
    batches[0]["image"] = photographs.contiguous(memory_format=torch.channels_last)  # as a file is decoded
    make_trainer(network, batches, channels_last=channels_last).run()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert seen and all(maps.is_contiguous(memory_format=layout) for maps in seen)


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", False), ("AVX512", True), ("DEFAULT", False)])
def test_channels_lie_innermost_only_where_that_is_faster(
    capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch, make_network: Callable, make_trainer: Callable
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert make_trainer(make_network(), []).channels_last is expected
    assert prefers_channels_last(torch.device("cuda"))


def test_a_checkpoint_is_read_back_in_the_other_layout(make_network: Callable, tmp_path: Any) -> None:
    saved, loaded = make_network(seed=1), make_network(seed=2)
    expected = {name: value.clone() for name, value in saved.state_dict().items()}
    lay_channels_last(saved)
    torch.save(saved.state_dict(), tmp_path / "model.pt")
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert list(saved.state_dict()) == list(expected)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]) and value.is_contiguous()


def test_half_precision_leaves_prior_and_losses_in_float32(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    trainer = train(make_network, make_trainer, make_batches, amp=True)
    assert trainer.scaler is None
    assert {trainer.state.output[key].dtype for key in ("prior", "pred", "loss_refiner", "loss_segmentor")} == {
        torch.float32
    }


@pytest.mark.parametrize(
    ("device", "amp", "dtype", "is_scaled"),
    [
        ("cpu", True, None, False),
        ("cpu", True, torch.float16, False),
        ("cuda", False, None, False),
        ("cuda", True, None, True),
        ("cuda", True, torch.float16, True),
        ("cuda", True, torch.bfloat16, False),
    ],
)
@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled, but CUDA is not available")
def test_gradients_are_scaled_where_they_may_underflow(
    device: str, amp: bool, dtype: torch.dtype | None, is_scaled: bool
) -> None:
    scaler = gradient_scaler(torch.device(device), amp, {} if dtype is None else {"dtype": dtype})
    assert (scaler is not None) == is_scaled


def test_compiled_forwards_keep_the_names_and_the_training(
    make_network: Callable, make_trainer: Callable, make_batches: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled by a backend that runs the graph as it is: the package's part, without the minutes."""
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        calls.append(len(inputs))
        return graph.forward

    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **_: compile_with(model, backend=backend))
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self: setattr(self, "_compiled_call_impl", compile_with(self._call_impl, backend=backend)),
    )
    plain = train(make_network, make_trainer, make_batches)
    assert not calls
    compiled = train(make_network, make_trainer, make_batches, compile_networks=True)
    assert len(calls) > 2
    assert list(compiled.network.state_dict()) == list(plain.network.state_dict())
    torch.testing.assert_close(compiled.network.state_dict(), plain.network.state_dict(), atol=1e-5, rtol=1e-4)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.Tensor) -> None:
        raise RuntimeError("no g++\nand more")

    monkeypatch.setattr(acceleration.torch, "compile", lambda model: fail)
    with pytest.raises(ValueError, match=r"fails on cpu \(RuntimeError: no g\+\+\); expected a C\+\+ compiler"):
        compile_forwards(torch.device("cpu"), nn.Identity())


def test_monai_s_own_compilation_is_refused(make_network: Callable, make_trainer: Callable) -> None:
    with pytest.raises(ValueError, match="compile is True; expected False: .* set compile_networks"):
        make_trainer(make_network(), [], compile=True)


def test_on_a_cpu_memory_is_kept_from_the_first_step(
    make_network: Callable, make_trainer: Callable, make_batches: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    module = f"{AlternateCollaborativeTrainer.__module__}.keep_freed_memory"
    monkeypatch.setattr(module, lambda: calls.append("kept"))
    make_trainer(make_network(), make_batches(1)).run()
    assert calls == ["kept"]
