"""Randomness that depends on the epoch alone, so that a resumed run draws what an uninterrupted one does."""

from __future__ import annotations

import random

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.transforms import Randomizable


class EpochSeed:
    """Seeds Python, NumPy, torch and the data's random transforms anew in every epoch.

    Attach it first: the loader shuffles after it. Of several processes each draws its own numbers, and the first one
    those of a single process.

    Args:
        seed: the run's seed.
        dataset: the training data, whose transforms keep random states of their own.
    """

    def __init__(self, seed: int, dataset: Dataset) -> None:
        self.seed = seed
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seeds everything for the engine's current epoch."""
        sequence = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()])  # a last 0 changes nothing
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        transform = self.dataset.transform
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)
