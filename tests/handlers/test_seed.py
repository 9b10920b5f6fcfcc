"""Draws depend on seed and epoch alone."""

import random

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.transforms import Compose, RandFlipd, RandScaleIntensityd, RandShiftIntensityd

from hidiff_monai.handlers import EpochSeed


def draw(dataset: Dataset) -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(1)), float(dataset[0]["image"].sum())]


def run(seed: int, first_epoch: int, transform: object = None) -> dict[int, list[float]]:
    transforms = [RandScaleIntensityd("image", 0.5, 0.9), RandShiftIntensityd("image", 0.5, prob=0.9)]
    dataset = Dataset([{"image": torch.ones(1, 4, 4)}], transform or Compose(transforms))
    engine, drawn = Engine(lambda engine, batch: None), {}
    EpochSeed(seed, dataset).attach(engine)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: drawn.update({e.state.epoch: draw(dataset)}))
    engine.state.max_epochs, engine.state.epoch_length = 4, 1
    engine.state.epoch = engine.state.iteration = first_epoch - 1
    engine.run([0], max_epochs=4)
    return drawn


def test_an_epoch_draws_the_same_wherever_the_run_began() -> None:
    whole = run(3, 1)
    torch.rand(5)
    assert list(whole) == [1, 2, 3, 4]
    assert run(3, 3) == {epoch: whole[epoch] for epoch in (3, 4)}


def test_epochs_and_seeds_differ_in_every_generator() -> None:
    whole, other = run(3, 1), run(17, 1)
    for generator in range(4):
        assert len({values[generator] for values in [*whole.values(), *other.values()]}) == 8


def test_transforms_without_randomness_and_single_ones_are_taken() -> None:
    assert run(3, 4, Compose([]))[4][:3] == run(3, 4)[4][:3]
    assert run(3, 4, RandFlipd("image", 0.5))[4][:3] == run(3, 4)[4][:3]
