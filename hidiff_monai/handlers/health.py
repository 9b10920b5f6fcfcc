"""Says early and in words what is wrong with a training."""

from __future__ import annotations

import logging
import math
from typing import cast

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from hidiff_monai.handlers.output import output_items, output_losses

NOISE_MARGIN = 1.25
NEGLIGIBLE = 1e-3
NOTHING_LABELLED = "no pixel of the labels is foreground"
MASKS = {"segmentor": "prior", "refiner": Keys.PRED}


class HealthCheck:
    """Stops a training whose loss is not finite, or whose masks are empty, full or noise.

    The loss is watched in every mini-batch. The masks of the segmentor (*prior* of the trainer's output) and of the
    refiner (*pred*), thresholded at 1/2, are counted over every epoch, in all processes together, and judged after it.
    A training on few images has epochs of a few mini-batches, from which no network has learnt anything yet: of masks
    both numbers must be reached.

    Args:
        patience: consecutive epochs in which the masks may be collapsed before the training is stopped.
        patience_iterations: consecutive mini-batches, likewise.
        exclusive: true where the first of K >= 2 channels is the background; all others together are judged.
    """

    def __init__(self, patience: int = 3, exclusive: bool = False, patience_iterations: int = 500) -> None:
        self.patience = patience
        self.patience_iterations = patience_iterations
        self.exclusive = exclusive
        self._bad_epochs = 0
        self._bad_iterations = 0
        self._counts: dict[str, torch.Tensor] = {}
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._watch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def state_dict(self) -> dict[str, int]:
        """The consecutive bad epochs and mini-batches so far."""
        return {"bad_epochs": self._bad_epochs, "bad_iterations": self._bad_iterations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes up an earlier count."""
        self._bad_epochs = state["bad_epochs"]
        self._bad_iterations = state.get("bad_iterations", 0)  # states of before count epochs only

    def _reset(self) -> None:
        self._counts = {name: torch.zeros(4, dtype=torch.long) for name in MASKS}

    def _watch(self, engine: Engine) -> None:
        for key, value in output_losses(engine.state.output).items():
            if not math.isfinite(value):
                raise ValueError(
                    f"{key} is {value} in epoch {engine.state.epoch}, iteration {engine.state.iteration}; "
                    "expected a finite number: lower the learning rate, set train#trainer#max_grad_norm, or turn amp "
                    "off, then train into another output_dir"
                )
        for item in output_items(engine.state.output):
            label = self._foreground(item[Keys.LABEL])
            num_labelled = label.sum()
            for name, key in MASKS.items():
                mask = self._foreground(item[key])
                total = torch.tensor(mask.numel(), device=mask.device)
                counts = torch.stack([mask.sum(), num_labelled, (mask & label).sum(), total])
                self._counts[name] = self._counts[name].to(mask.device) + counts  # no waiting for a GPU

    def _foreground(self, values: torch.Tensor) -> torch.Tensor:
        """Pixels above 1/2; of exclusive classes, those whose most probable class is not the background."""
        if not self.exclusive:
            return values > 0.5
        axis = values.dim() - 3  # channels, with or without a batch
        return values.argmax(dim=axis) > 0

    def _judge(self, engine: Engine) -> None:
        self._counts = {name: cast(torch.Tensor, idist.all_reduce(counts)) for name, counts in self._counts.items()}
        fault = self._fault()
        self._bad_epochs = self._bad_epochs + 1 if fault else 0
        self._bad_iterations = self._bad_iterations + (engine.state.epoch_length or 0) if fault else 0
        if fault is None:
            return
        has_learnt_enough = self._bad_iterations >= self.patience_iterations or fault == NOTHING_LABELLED
        if self._bad_epochs >= self.patience and has_learnt_enough:
            raise ValueError(
                f"{fault}, in {self._bad_epochs} epochs up to epoch {engine.state.epoch}: check that image and label "
                "belong together (hidiff check), that images lie in the range the network expects, and the learning "
                "rate"
            )
        self.logger.warning(f"{fault}, in epoch {engine.state.epoch}; the training stops if that goes on")

    def _fault(self) -> str | None:
        if all(counts[1] == 0 for counts in self._counts.values()):
            return NOTHING_LABELLED
        for name, counts in self._counts.items():
            fault = describe_collapse(*counts.tolist())
            if fault is not None:
                return f"the {name}'s {fault}"
        return None


def describe_collapse(predicted: float, labelled: float, common: float, total: float) -> str | None:
    """What is wrong with masks that have these pixel counts, in words; None where nothing is.

    A mask is called noise where its Dice is no better than that of a random mask of the same size, within 25 %.

    Args:
        predicted: foreground pixels of the masks.
        labelled: foreground pixels of the labels.
        common: pixels that are foreground in both.
        total: all pixels.
    """
    if labelled == 0:
        return None
    if predicted < NEGLIGIBLE * labelled:
        amount = "all 0" if predicted == 0 else "all but 0"
        return f"masks are empty ({amount}), while {labelled / total:.1%} of the pixels are labelled"
    if predicted == total:
        return f"masks are full (all 1), while {labelled / total:.1%} of the pixels are labelled"
    dice, chance = 2 * common / (predicted + labelled), 2 * predicted * labelled / total / (predicted + labelled)
    if labelled < total and dice < NOISE_MARGIN * chance and dice < 0.9:
        return f"masks are noise: Dice {dice:.3f}, where a random mask of their size has {chance:.3f}"
    return None
