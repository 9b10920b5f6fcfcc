"""The best model and the states to resume from: what is written, kept, and refused."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hidiff_monai.handlers import BestModelSaver, ResumableTraining
from hidiff_monai.io import load_weights
from hidiff_monai.io.locks import hold_lock


def build_engine(max_epochs: int, epoch_length: int = 1) -> Engine:
    engine = Engine(lambda engine, batch: None)
    engine.scaler = None
    engine.state.max_epochs, engine.state.epoch_length = max_epochs, epoch_length
    return engine


def run(folder: Path, objects: dict[str, Any], max_epochs: int, epoch_length: int = 1, **options: Any) -> list[int]:
    """Runs an engine that does nothing; returns the epochs it went through."""
    engine, epochs = build_engine(max_epochs, epoch_length), []
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: epochs.append(engine.state.epoch))
    ResumableTraining(folder, objects, **options).attach(engine)
    engine.run(range(epoch_length), max_epochs=max_epochs)
    return epochs


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_the_two_newest_states_are_kept_and_load_with_weights_only(tmp_path: Path) -> None:
    assert run(tmp_path, {"network": nn.Linear(1, 1)}, 11) == list(range(1, 12))
    assert names(tmp_path) == ["resume_10.pt", "resume_11.pt"]
    state = torch.load(tmp_path / "resume_11.pt", weights_only=True)
    assert state["trainer"] == {"epoch": 11, "epoch_length": 1}
    assert set(state) == {"trainer", "network"}


def test_interval_saves_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    run(tmp_path, {"network": nn.Linear(1, 1)}, 5, interval=2)
    assert names(tmp_path) == ["resume_4.pt", "resume_5.pt"]


def test_an_error_while_writing_leaves_the_earlier_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, save = nn.Linear(1, 1), torch.save

    def full_disk(state: Any, path: Path) -> None:
        save(state, path)
        if state["trainer"]["epoch"] == 3:
            raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        run(tmp_path, {"network": network}, 5)
    monkeypatch.undo()
    assert names(tmp_path) == ["resume_1.pt", "resume_2.pt"]
    assert run(tmp_path, {"network": network}, 5) == [3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_truncated_newest_state_is_named_and_the_last_good_one_offered(tmp_path: Path, content: bytes | None) -> None:
    network = nn.Linear(1, 1)
    run(tmp_path, {"network": network}, 3)
    newest, good = tmp_path / "resume_3.pt", tmp_path / "resume_2.pt"
    newest.write_bytes(newest.read_bytes()[:500] if content is None else content)
    with pytest.raises(
        ValueError, match=f"{newest}: is truncated.*the last good one is {good}: pass it as resume_from"
    ):
        run(tmp_path, {"network": network}, 5)
    assert names(tmp_path) == ["resume_2.pt", "resume_3.pt"]
    assert run(tmp_path, {"network": network}, 4, resume_from=good) == [3, 4]


def test_where_no_state_can_be_read_none_is_offered(tmp_path: Path) -> None:
    for epoch in (1, 2):
        (tmp_path / f"resume_{epoch}.pt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="resume_2.pt: is truncated or no checkpoint") as error:
        run(tmp_path, {}, 3)
    assert "last good" not in str(error.value)


def test_the_same_line_again_goes_on_and_does_not_begin_again(tmp_path: Path) -> None:
    """--resume_from another run's state, interrupted, and given once more."""
    first, second = tmp_path / "first", tmp_path / "second"
    run(first, {"network": nn.Linear(1, 1)}, 3)
    given = first / "resume_3.pt"
    assert run(second, {"network": nn.Linear(1, 1)}, 6, resume_from=given) == [4, 5, 6]
    assert run(second, {"network": nn.Linear(1, 1)}, 8, resume_from=given) == [7, 8]
    assert run(second, {"network": nn.Linear(1, 1)}, 9) == [9]  # and without it
    assert run(second, {"network": nn.Linear(1, 1)}, 10, resume_from=given) == [10]
    with pytest.raises(ValueError, match=r"resume_4.pt: there is no such checkpoint"):
        run(second, {"network": nn.Linear(1, 1)}, 11, resume_from=first / "resume_4.pt")
    other = tmp_path / "other"
    run(other, {"network": nn.Linear(1, 1)}, 11)
    assert run(second, {"network": nn.Linear(1, 1)}, 12, resume_from=other / "resume_11.pt") == [12]


def test_what_keeps_a_state_of_elsewhere_from_being_taken_up_is_left_out(tmp_path: Path) -> None:
    settings = {"learning_rate": 0.1}
    run(tmp_path / "a", {"network": nn.Linear(1, 1)}, 1, settings=settings)
    for folder, mend in (("a", "use another output_dir"), ("b", "leave out resume_from")):
        given = tmp_path / "a" / "resume_1.pt"
        with pytest.raises(ValueError, match=rf"learning_rate 0.1, this one has 0.2: set it as it was, or {mend}"):
            run(tmp_path / folder, {"network": nn.Linear(1, 1)}, 2, resume_from=given, settings={"learning_rate": 0.2})


def test_an_earlier_state_of_the_same_run_is_gone_back_to_as_long_as_it_is_there(tmp_path: Path) -> None:
    run(tmp_path, {"network": nn.Linear(1, 1)}, 3)
    given = tmp_path / "resume_2.pt"
    assert run(tmp_path, {"network": nn.Linear(1, 1)}, 5, resume_from=given) == [3, 4, 5]
    assert names(tmp_path) == ["resume_4.pt", "resume_5.pt"]
    assert run(tmp_path, {"network": nn.Linear(1, 1)}, 6, resume_from=given) == [6]


def test_files_of_other_names_are_neither_read_nor_removed(tmp_path: Path) -> None:
    run(tmp_path, {"network": nn.Linear(1, 1)}, 1)
    for name in ("resume_best.pt", "resume_1_backup.pt"):
        (tmp_path / name).write_bytes(b"of the user's own")
    assert run(tmp_path, {"network": nn.Linear(1, 1)}, 5) == [2, 3, 4, 5]
    assert names(tmp_path) == ["resume_1_backup.pt", "resume_4.pt", "resume_5.pt", "resume_best.pt"]


def test_a_missing_resume_from_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere.pt: there is no such checkpoint"):
        run(tmp_path, {}, 3, resume_from=tmp_path / "nowhere.pt")


def test_a_state_of_another_architecture_is_refused_by_key_and_loads_nothing(
    tmp_path: Path, make_network: Callable
) -> None:
    run(tmp_path, {"network": make_network(width=8)}, 1)
    network = make_network(seed=1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"resume_1.pt \(network\): belongs to another architecture: segmentor\.\S+ is"
    ):
        run(tmp_path, {"network": network}, 2)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_another_epoch_length_configuration_or_optimizer_is_refused(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(network.parameters())
    run(tmp_path, {"optimizer": optimizer}, 1)
    with pytest.raises(ValueError, match="a run with 1 mini-batches an epoch, this one has 2: use the same data"):
        run(tmp_path, {"optimizer": optimizer}, 2, epoch_length=2)
    with pytest.raises(ValueError, match=r"holds no state of \['ema'\]; expected one saved by this configuration"):
        run(tmp_path, {"optimizer": optimizer, "ema": network}, 2)
    with pytest.raises(ValueError, match="resume_1.pt does not fit this configuration: .*parameter group"):
        run(tmp_path, {"optimizer": torch.optim.AdamW([network.weight])}, 2)


def test_a_folder_that_cannot_be_written_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    below = tmp_path / "file" / "resume"
    with pytest.raises(ValueError, match=rf"{re.escape(str(below))}: cannot be written .*choose another"):
        ResumableTraining(below, {}).attach(build_engine(1))
    with pytest.raises(ValueError, match="cannot be written"):
        BestModelSaver(below / "model.pt", nn.Linear(1, 1), "dice").attach(build_engine(1))


def test_the_best_model_is_flat_and_is_replaced_only_by_one_as_good(tmp_path: Path, make_network: Callable) -> None:
    network, path = make_network(), tmp_path / "models" / "model.pt"
    saver, evaluator = BestModelSaver(path, network, "dice"), build_engine(1)
    saver.attach(evaluator)
    scores, saved = iter([0.5, 0.4, float("nan"), 0.5, 0.6]), []
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(dice=next(scores)))
    for step in range(5):
        network.refiner.correction.bias.data.fill_(float(step))
        evaluator.run([0], max_epochs=1)
        saved.append(float(torch.load(path, weights_only=True)["refiner.correction.bias"]))
    assert saved == [0.0, 0.0, 0.0, 3.0, 4.0]  # where labels hold no foreground, every score is 0
    assert saver.state_dict() == {"best": 0.6}
    assert os.listdir(path.parent) == ["model.pt"]
    fresh = make_network(seed=5)
    fresh.load_state_dict(torch.load(path, weights_only=True), strict=True)
    load_weights(fresh, path)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in fresh.state_dict().items())


def test_the_newest_is_kept_where_the_metric_cannot_choose(tmp_path: Path, make_network: Callable) -> None:
    network, path = make_network(), tmp_path / "model.pt"
    saver, evaluator = BestModelSaver(path, network, "dice", keeps_newest=True), build_engine(1)
    saver.attach(evaluator)
    scores = iter([0.8, float("nan"), 0.5])
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(dice=next(scores)))
    for step in range(3):
        network.refiner.correction.bias.data.fill_(float(step))
        evaluator.run([0], max_epochs=1)
        assert float(torch.load(path, weights_only=True)["refiner.correction.bias"]) == step
    assert saver.state_dict() == {"best": 0.8}


def test_a_best_score_that_is_forgotten_yields_to_a_lower_one(tmp_path: Path, make_network: Callable) -> None:
    network, path = make_network(), tmp_path / "model.pt"
    saver, evaluator = BestModelSaver(path, network, "dice"), build_engine(1)
    saver.attach(evaluator)
    scores, saved = iter([0.8, 0.6, 0.5]), []
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(dice=next(scores)))
    for step in range(3):
        if step == 1:
            saver.forget()
        network.refiner.correction.bias.data.fill_(float(step))
        evaluator.run([0], max_epochs=1)
        saved.append(float(torch.load(path, weights_only=True)["refiner.correction.bias"]))
    assert saved == [0.0, 1.0, 1.0]


def test_a_run_taken_up_elsewhere_has_a_model_there_too(tmp_path: Path, make_network: Callable) -> None:
    network, path = make_network(), tmp_path / "model.pt"
    saver, evaluator = BestModelSaver(path, network, "dice"), build_engine(1)
    saver.attach(evaluator)
    saver.load_state_dict({"best": 0.8})  # of the other folder, where that model stayed
    scores = iter([0.6, 0.5, 0.7])
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(dice=next(scores)))
    saved = []
    for step in range(3):
        network.refiner.correction.bias.data.fill_(float(step))
        evaluator.run([0], max_epochs=1)
        saved.append(float(torch.load(path, weights_only=True)["refiner.correction.bias"]))
    assert saved == [0.0, 0.0, 2.0]


def test_a_run_with_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    run(tmp_path, {}, 1, settings={"seed": 0})
    with pytest.raises(ValueError, match="seed 0, this one has 1"):
        run(tmp_path, {}, 2, settings={"seed": 1})
    assert run(tmp_path, {}, 2, settings={"seed": 0}) == [2]


def test_two_trainings_do_not_write_into_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    code = "import sys; from pathlib import Path; from hidiff_monai.io.locks import hold_lock\n"
    code += "assert hold_lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=rf"{tmp_path}: another training writes there; .*another output_dir"):
            run(tmp_path, {"network": nn.Linear(1, 1)}, 2)
        other.communicate()
    for _ in range(2):  # twice by the same process: still held
        assert hold_lock(tmp_path / ".lock")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as other:
        assert b"BlockingIOError" in other.communicate()[1]
    (tmp_path / ".resume_7.pt.123.tmp").write_bytes(b"of a killed process")
    assert run(tmp_path, {"network": nn.Linear(1, 1)}, 2) == [1, 2]
    assert names(tmp_path) == ["resume_1.pt", "resume_2.pt"]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)  # this one has ended


def test_a_resumed_training_has_the_rates_and_options_of_its_configuration(tmp_path: Path) -> None:
    def build(lr: float, weight_decay: float) -> dict[str, Any]:
        network = nn.Linear(1, 1)
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
        return {"optimizer": optimizer, "schedule": LambdaLR(optimizer, lambda epoch: 0.5**epoch)}

    run(tmp_path, build(0.1, 0.01), 2)
    changed = build(0.2, 0.03)
    run(tmp_path, changed, 3)
    (group,) = changed["optimizer"].param_groups
    assert changed["schedule"].base_lrs == [0.2] and group["lr"] == 0.2 and group["weight_decay"] == 0.03
