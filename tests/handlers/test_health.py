"""A training that goes wrong is told so in words, early."""

import logging
from collections.abc import Callable

import pytest
import torch
from ignite.engine import Engine

from hidiff_monai.handlers import AlternateCollaborativeHandler, HealthCheck
from hidiff_monai.handlers.health import describe_collapse

LABEL = (torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(123)) > 0.8).float()


def run(
    prediction: Callable[[], torch.Tensor],
    epochs: int,
    loss: float = 1.0,
    label: torch.Tensor = LABEL,
    network: str = "refiner",
    patience_iterations: int = 6,
) -> None:
    def step(engine: Engine, batch: int) -> dict[str, torch.Tensor]:
        masks = {"prior": label, "pred": label}
        masks["pred" if network == "refiner" else "prior"] = prediction()
        return {**masks, "label": label, "loss_refiner": torch.tensor(loss)}

    engine = Engine(step)
    HealthCheck(patience=3, patience_iterations=patience_iterations).attach(engine)
    engine.run(range(2), max_epochs=epochs)


BAD = {
    "empty": lambda: torch.zeros_like(LABEL),
    "full": lambda: torch.ones_like(LABEL),
    "noise": lambda: torch.rand_like(LABEL),
}


@pytest.mark.parametrize("network", ["segmentor", "refiner"])
@pytest.mark.parametrize("kind", BAD)
def test_a_collapsed_mask_is_warned_of_and_stops_the_training_with_patience(
    kind: str, network: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "hidiff_monai"),
        pytest.raises(ValueError, match=f"the {network}'s masks are {kind}") as e,
    ):
        run(BAD[kind], epochs=5, network=network)
    assert "in 3 epochs up to epoch 3" in str(e.value) and "hidiff check" in str(e.value)
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("hidiff_monai")]
    assert len(warnings) == 2
    assert all(f"the {network}'s masks are {kind}" in text and "stops if that goes on" in text for text in warnings)


def test_a_few_mini_batches_are_too_few_to_judge_by(caplog: pytest.LogCaptureFixture) -> None:
    """Four photographs are two mini-batches an epoch: after three epochs no network has learnt anything."""
    with caplog.at_level(logging.WARNING, "hidiff_monai"):
        run(BAD["noise"], epochs=5, patience_iterations=500)
    assert sum("stops if that goes on" in record.getMessage() for record in caplog.records) == 5
    with pytest.raises(ValueError, match="in 6 epochs up to epoch 6"):
        run(BAD["noise"], epochs=9, patience_iterations=11)


def test_labels_without_any_foreground_stop_the_training() -> None:
    with pytest.raises(ValueError, match="no pixel of the labels is foreground, in 3 epochs up to epoch 3"):
        run(BAD["empty"], epochs=5, label=torch.zeros_like(LABEL), patience_iterations=500)


def test_good_masks_pass(caplog: pytest.LogCaptureFixture) -> None:
    run(lambda: 0.4 * LABEL + 0.3, epochs=5)
    assert caplog.records == [] or all(not record.name.startswith("hidiff_monai") for record in caplog.records)


def test_a_recovered_training_starts_counting_anew() -> None:
    calls = iter(range(100))
    run(lambda: torch.zeros_like(LABEL) if next(calls) // 2 % 3 < 2 else LABEL, epochs=9)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_at_once(loss: float) -> None:
    with pytest.raises(ValueError, match=f"loss_refiner is {loss} in epoch 1, iteration 1; .*lower the learning rate"):
        run(lambda: LABEL, epochs=1, loss=loss)


@pytest.mark.parametrize(("pretrain_epochs", "words"), [(1, "loss_segmentor"), (0, "the segmentor's mask")])
def test_nan_pixels_stop_a_real_trainer(
    pretrain_epochs: int, words: str, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    batches = make_batches(2)
    batches[1]["image"][0, 0, 0, 0] = float("nan")
    handlers = [AlternateCollaborativeHandler(pretrain_epochs), HealthCheck()]
    with pytest.raises(ValueError, match=f"{words} is (nan|NaN) in epoch 1, iteration 2.* lower the learning rate"):
        make_trainer(make_network(), batches, train_handlers=handlers).run()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 100, 0, 1000), "empty (all 0), while 10.0% of the pixels are labelled"),
        ((9, 10_000, 0, 100_000), "empty (all but 0), while 10.0%"),
        ((1000, 100, 100, 1000), "full (all 1), while 10.0%"),
        # Dice 2*24/(200+100) = 0.160; at chance 2*200*100/1000/300 = 0.133, times 1.25 = 0.167
        ((200, 100, 24, 1000), "noise: Dice 0.160, where a random mask of their size has 0.133"),
        ((200, 100, 26, 1000), None),
        ((100, 0, 0, 1000), None),
        ((0, 0, 0, 1000), None),
        ((990, 990, 985, 1000), None),  # nearly everything is foreground: chance alone is near 1
        ((999, 1000, 999, 1000), None),
    ],
)
def test_describe_collapse_by_hand(counts: tuple[float, ...], words: str | None) -> None:
    fault = describe_collapse(*counts)
    assert fault is None if words is None else words in (fault or "")


@pytest.mark.parametrize("classes", ["masks", "labels"])
def test_a_background_everywhere_is_empty_where_classes_exclude_each_other(classes: str) -> None:
    background = torch.zeros(2, 3, 8, 8)
    background[:, 0] = 1
    label = torch.zeros_like(background).scatter_(1, torch.randint(3, (2, 1, 8, 8)), 1)
    masks, label = (background, label) if classes == "masks" else (label, background)

    def step(engine: Engine, batch: int) -> dict[str, torch.Tensor]:
        return {"prior": masks, "pred": label, "label": label, "loss_refiner": torch.tensor(1.0)}

    engine = Engine(step)
    HealthCheck(patience=3, exclusive=True, patience_iterations=6).attach(engine)
    words = "the segmentor's masks are empty" if classes == "masks" else "no pixel of the labels is foreground"
    with pytest.raises(ValueError, match=words):
        engine.run(range(2), max_epochs=5)
