"""MONAI's handlers, decollation, postprocessing and metrics work as with a SupervisedTrainer."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from monai.handlers import MeanDice, from_engine
from monai.transforms import AsDiscreted, Compose

from hidiff_monai.handlers import AlternateCollaborativeHandler, HealthCheck, HistoryWriter, LossProgressBar

ONE_NETWORK = ["FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED"]


@pytest.mark.parametrize(("pretrain_epochs", "networks"), [(1, 1), (0, 2)])
def test_events_fire_for_every_trained_network_and_once_for_the_model(
    pretrain_epochs: int, networks: int, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    handler = AlternateCollaborativeHandler(pretrain_epochs)
    trainer = make_trainer(make_network(), make_batches(1), train_handlers=[handler])
    seen: list[tuple[str, set[str]]] = []
    for event in IterationEvents:
        if event.name in (*ONE_NETWORK, "MODEL_COMPLETED"):
            trainer.add_event_handler(
                event, lambda engine, name: seen.append((name, set(engine.state.output))), event.name
            )
    trainer.run()
    assert [name for name, _ in seen] == ONE_NETWORK * networks + ["MODEL_COMPLETED"]
    forward, loss = seen[0][1], seen[1][1]
    assert forward == {"image", "label", "prior", "pred"}
    assert loss - forward == {"loss", "loss_segmentor" if pretrain_epochs else "loss_refiner"}


def test_without_decollation_the_output_is_the_batch(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    batches = make_batches(1)
    trainer = make_trainer(make_network(), batches)
    trainer.run()
    assert torch.equal(trainer.state.output["image"], batches[0]["image"])
    assert trainer.state.output["pred"].shape == (2, 1, 16, 16)


def test_decollated_predictions_are_postprocessed_case_by_case(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    batches = make_batches(1)
    plain = make_trainer(make_network(), batches)
    plain.run()
    trainer = make_trainer(
        make_network(), batches, decollate=True, postprocessing=Compose([AsDiscreted("pred", threshold=0.5)])
    )
    trainer.run()
    output = trainer.state.output
    assert len(output) == 2
    for case in range(2):
        assert torch.equal(output[case]["image"], batches[0]["image"][case])
        assert output[case]["pred"].unique().tolist() == [0, 1]
        assert output[case]["loss_refiner"] == pytest.approx(plain.state.output["loss_refiner"].item())


def test_key_metric_is_the_mean_dice_of_the_predictions(
    make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    expected: list[float] = []

    def by_hand(engine: Engine) -> None:
        for item in engine.state.output:
            mask, label = item["pred"], item["label"]
            expected.append(float(2 * (mask * label).sum() / (mask.sum() + label.sum())))

    trainer = make_trainer(
        make_network(),
        make_batches(2),
        decollate=True,
        postprocessing=Compose([AsDiscreted("pred", threshold=0.5)]),
        key_train_metric={"train_dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
    )
    trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, by_hand)
    trainer.run()
    assert len(expected) == 4
    assert trainer.state.metrics["train_dice"] == pytest.approx(sum(expected) / 4, rel=1e-6)


def test_this_package_s_handlers_read_decollated_output_alike(
    tmp_path: Path, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    texts, counts = [], []
    for decollate in (False, True):
        schedule, health = AlternateCollaborativeHandler(0), HealthCheck()
        path = tmp_path / f"{decollate}.csv"
        trainer = make_trainer(
            make_network(), make_batches(2), decollate=decollate, train_handlers=[schedule, health, LossProgressBar()]
        )
        HistoryWriter(path, schedule, Engine(lambda engine, batch: None)).attach(trainer)
        torch.manual_seed(1)
        trainer.run()
        texts.append(path.read_text())
        counts.append(health._counts)
    assert texts[0] == texts[1]
    for name in ("segmentor", "refiner"):
        assert torch.equal(counts[0][name], counts[1][name])
        assert counts[0][name][3] == 2 * 2 * 16 * 16
