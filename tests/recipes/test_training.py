"""What every training has attached: which epoch's network becomes the model, and how the learning rates fall."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose

from hidiff_monai.handlers import AlternateCollaborativeHandler, ResumableEMA
from hidiff_monai.inferers import BernoulliDiffusionInferer
from hidiff_monai.recipes import attach_handlers, mask_transforms


@pytest.fixture
def train(tmp_path: Path, make_network: Callable, make_trainer: Callable, make_batches: Callable) -> Callable:
    """Trains tiny networks on one mini-batch; the refined mask scores what it is told, epoch by epoch."""

    def run(alternation: AlternateCollaborativeHandler, scores: list[float], **options: Any) -> None:
        batch = make_batches(1)[0]
        cases = [{"image": image, "label": label} for image, label in zip(batch["image"], batch["label"], strict=True)]
        loader = DataLoader(CacheDataset(cases, Compose([]), progress=False), batch_size=2)
        network = make_network()
        trainer = make_trainer(network, loader, max_epochs=len(scores))
        ema = ResumableEMA(network, 0.01)
        evaluator = SupervisedEvaluator(
            torch.device("cpu"),
            loader,
            ema.ema_model,
            inferer=BernoulliDiffusionInferer(num_inference_steps=1, outputs=("refined", "prior")),
            postprocessing=mask_transforms(),
        )

        @evaluator.on(Events.EPOCH_COMPLETED)
        def score() -> None:
            value = scores[trainer.state.epoch - 1]
            evaluator.state.metrics.update(val_dice_refined=value, val_dice_prior=value)

        settings = {"output_dir": tmp_path, "model_dir": tmp_path / "models", "val_interval": 1, "seed": 0, **options}
        attach_handlers(trainer, evaluator, alternation, ema, **settings)
        trainer.run()

    return run


def test_validation_every_0_epochs_is_refused_before_the_first(tmp_path: Path, train: Callable) -> None:
    with pytest.raises(ValueError, match="val_interval is 0; expected a number of epochs from 1"):
        train(AlternateCollaborativeHandler(1), [0.9, 0.8], val_interval=0)


@pytest.mark.parametrize(
    ("pretrain_epochs", "best"), [(1, 0.8), (0, 0.9), (2, 0.9)], ids=["one epoch alternates", "both do", "none does"]
)
def test_an_alternating_epoch_becomes_the_model_though_a_pretraining_one_scored_higher(
    pretrain_epochs: int, best: float, tmp_path: Path, train: Callable
) -> None:
    train(AlternateCollaborativeHandler(pretrain_epochs), [0.9, 0.8])
    state = torch.load(tmp_path / "resume" / "resume_2.pt", weights_only=True)
    assert state["best_model"] == {"best": best}
    assert (tmp_path / "models" / "model.pt").exists()


def test_each_learning_rate_falls_over_the_epochs_of_its_network(tmp_path: Path, train: Callable) -> None:
    train(AlternateCollaborativeHandler(0, segmentor_epochs=1), [0.1, 0.2])
    rows = [*csv.DictReader((tmp_path / "history.csv").open(encoding="utf-8"))]
    assert [row["phase"] for row in rows] == ["alternate", "refine"]
    assert [bool(row["loss_segmentor"]) for row in rows] == [True, False]
    for network, factors in (("segmentor", [1, 0]), ("refiner", [1, 0.5**0.9])):
        rates = [float(row[f"lr_{network}"]) for row in rows]
        assert rates == pytest.approx([rates[0] * factor for factor in factors]) and rates[0] > 0
    before, after = (
        torch.load(tmp_path / "resume" / f"resume_{epoch}.pt", weights_only=True)["network"] for epoch in (1, 2)
    )
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"refiner"}


def test_where_the_validation_cases_train_the_last_epoch_becomes_the_model(
    tmp_path: Path, train: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    train(AlternateCollaborativeHandler(0), [0.9, 0.8], train_sections=["training", "validation"])
    assert "the validation cases train too" in caplog.text
    state = torch.load(tmp_path / "resume" / "resume_2.pt", weights_only=True)
    model = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert state["settings"]["train_sections"] == ["training", "validation"]
    assert all(torch.equal(value, state["ema"][name]) for name, value in model.items())
    before = torch.load(tmp_path / "resume" / "resume_1.pt", weights_only=True)["ema"]
    assert any(not torch.equal(value, before[name]) for name, value in model.items())


@pytest.mark.parametrize("sections", [["training", "test"], ["validation"], [], "training"])
def test_other_sections_never_train(sections: Any, train: Callable) -> None:
    with pytest.raises(ValueError, match=r"train_sections is .*; expected \['training'\], or .* never train"):
        train(AlternateCollaborativeHandler(0), [0.9], train_sections=sections)


def test_a_run_is_taken_up_with_the_same_split_wherever_it_lies(tmp_path: Path, train: Callable) -> None:
    first, moved, other = (tmp_path / name / "datalist.json" for name in ("first", "moved", "other"))
    for file, content in ((first, "a"), (moved, "a"), (other, "b")):
        file.parent.mkdir()
        file.write_text(content)
    train(AlternateCollaborativeHandler(0), [0.1], datalist_file=first)
    train(AlternateCollaborativeHandler(0), [0.1, 0.2], datalist_file=moved)
    with pytest.raises(ValueError, match="comes from a run with datalist_sha256"):
        train(AlternateCollaborativeHandler(0), [0.1, 0.2, 0.3], datalist_file=other)


def test_a_quick_look_is_not_taken_up_by_a_training_of_another_schedule(train: Callable) -> None:
    train(AlternateCollaborativeHandler(1), [0.1, 0.2])
    with pytest.raises(ValueError, match="comes from a run with pretrain_epochs 1, this one has 4"):
        train(AlternateCollaborativeHandler(4), [0.1] * 6)


def test_an_epoch_added_to_a_run_trains_at_the_new_schedule_s_rate(tmp_path: Path, train: Callable) -> None:
    for epochs in (1, 2):
        train(AlternateCollaborativeHandler(0), [0.1] * epochs)
    rows = [*csv.DictReader((tmp_path / "history.csv").open(encoding="utf-8"))]
    for network in ("segmentor", "refiner"):
        first, added = (float(row[f"lr_{network}"]) for row in rows)
        assert added == pytest.approx(first * 0.5**0.9)
    before, after = (
        torch.load(tmp_path / "resume" / f"resume_{epoch}.pt", weights_only=True)["network"] for epoch in (1, 2)
    )
    assert not torch.equal(before["refiner.correction.weight"], after["refiner.correction.weight"])
