"""A training that was stopped and resumed equals one that never stopped, bit for bit."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from hidiff_monai.engines import AlternateCollaborativeTrainer
from hidiff_monai.handlers import ResumableTraining


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Equality of nested states, tensors bit for bit."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for i, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}.{i}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


@pytest.fixture(scope="module")
def whole(make_training: Callable, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four epochs in one go."""
    training = make_training(tmp_path_factory.mktemp("whole"))
    training.trainer.run()
    return training


def test_two_epochs_and_two_more_are_four(whole: Any, tmp_path: Path, make_training: Callable) -> None:
    first = make_training(tmp_path, max_epochs=2)
    first.trainer.run()
    second = make_training(tmp_path, seed=99)  # another process has other weights and another random state
    second.trainer.run()
    assert second.trainer.state.epoch == 4 and second.trainer.state.iteration == 12
    assert_same(second.states(), whole.states())
    newest = [torch.load(folder / "resume" / "resume_4.pt", weights_only=True) for folder in (whole.folder, tmp_path)]
    assert_same(*newest)
    momenta = first.momenta + second.momenta
    assert momenta == whole.momenta == pytest.approx([max(0.01, 0.2 - 0.19 * i / 7) for i in range(12)])


def test_so_they_are_with_two_loading_processes(tmp_path: Path, make_training: Callable) -> None:
    whole = make_training(tmp_path / "whole", max_epochs=2, num_workers=2)
    whole.trainer.run()
    for max_epochs, seed in ((1, 0), (2, 99)):
        part = make_training(tmp_path / "parts", max_epochs=max_epochs, seed=seed, num_workers=2)
        part.trainer.run()
    assert_same(part.states(), whole.states())


def test_a_run_broken_off_within_an_epoch_goes_on_from_the_last_whole_one(
    whole: Any, tmp_path: Path, make_training: Callable
) -> None:
    broken = make_training(tmp_path)

    @broken.trainer.on(Events.ITERATION_COMPLETED(once=8))
    def power_cut() -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        broken.trainer.run()
    assert sorted(path.name for path in (tmp_path / "resume").glob("resume_*")) == ["resume_1.pt", "resume_2.pt"]
    resumed = make_training(tmp_path, seed=99)
    resumed.trainer.run()
    assert_same(resumed.states(), whole.states())


def test_terminating_within_an_epoch_saves_no_half_epoch(tmp_path: Path, make_training: Callable) -> None:
    stopped = make_training(tmp_path)
    stopped.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), lambda engine: engine.terminate())
    stopped.trainer.run()
    assert [path.name for path in (tmp_path / "resume").glob("resume_*")] == ["resume_1.pt"]


def test_resuming_from_an_earlier_state_drops_the_later_ones(
    whole: Any, tmp_path: Path, make_training: Callable
) -> None:
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "resume"
    again = make_training(tmp_path, seed=99, resume_from=folder / "resume_3.pt")
    seen = []
    again.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: seen.append(engine.state.epoch))
    (folder / "resume_4.pt").rename(folder / "resume_7.pt")
    again.trainer.run()
    assert seen == [4]
    assert sorted(path.name for path in folder.glob("resume_*")) == ["resume_3.pt", "resume_4.pt"]
    assert_same(again.states(), whole.states())


def test_run_called_again_goes_on_with_the_weights_it_has(tmp_path: Path, make_training: Callable) -> None:
    """A federated client sets the weights, then runs on; they must not be replaced by its own newest state."""
    training = make_training(tmp_path, max_epochs=1)
    training.trainer.run()
    with torch.no_grad():
        for parameter in training.trainer.network.parameters():
            parameter.fill_(0.125)
    kept = []
    training.trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda engine: kept.extend(p.eq(0.125).all() for p in engine.network.parameters())
    )
    training.trainer.state.max_epochs = 2
    training.trainer.run()
    assert training.trainer.state.epoch == 2
    assert len(kept) > 0 and all(kept)


class ScaleFrom:
    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        self.scaler = scaler

    def attach(self, engine: AlternateCollaborativeTrainer) -> None:
        engine.add_event_handler(Events.STARTED, lambda: setattr(engine, "scaler", self.scaler))


def test_the_gradient_scaler_is_restored(
    tmp_path: Path, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    scales = []
    for max_epochs in (1, 2):
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        network = make_network()
        trainer = make_trainer(network, make_batches(3), max_epochs, train_handlers=[ScaleFrom(scaler)])
        ResumableTraining(tmp_path, {"network": network}).attach(trainer)
        trainer.run()
        scales.append((scaler.get_scale(), scaler._get_growth_tracker()))
    assert scales == [(8.0, 1), (32.0, 0)]  # 3 steps, then 3 more


def test_a_state_saved_without_amp_is_taken_up_with_amp(
    tmp_path: Path, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    for max_epochs, amp in ((1, False), (2, True), (3, False)):
        network = make_network()
        trainer = make_trainer(network, make_batches(1), max_epochs, amp=amp)
        ResumableTraining(tmp_path, {"network": network}).attach(trainer)
        trainer.run()
    assert [path.name for path in sorted(tmp_path.glob("resume_*"))] == ["resume_2.pt", "resume_3.pt"]
