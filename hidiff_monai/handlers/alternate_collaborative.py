"""Which network trains when."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events

from hidiff_monai.engines import AlternateCollaborativeTrainer, UpdatePlan

PRETRAINING, ALTERNATING, REFINING = "pretrain", "alternate", "refine"


class AlternateCollaborativeHandler:
    """Governs an ``AlternateCollaborativeTrainer``: segmentor pre-training, then HiDiff's Algorithm 1.

    After ``segmentor_epochs`` a third phase follows, which the paper has not: g goes on alone, f stays as it is.

    Args:
        pretrain_epochs: epochs in which f trains alone on L_Disc.
        collaboration_start: epochs after which L_Diff enters f's objective (Eq. 17); None means at once, after
            pre-training. Until then f goes on with L_Disc alone, while g learns.
        lambda_diff: its weight.
        refiner_every: g takes a step in every n-th mini-batch (or accumulation window).
        segmentor_every: so does f.
        segmentor_epochs: epochs in which f takes steps, pre-training included; None for all. 0, without pre-training,
            leaves it as it is, a trained segmentor for example.

    Raises:
        ValueError: when a number is out of range, or some mini-batches would train nothing.
    """

    def __init__(
        self,
        pretrain_epochs: int,
        collaboration_start: int | None = None,
        lambda_diff: float = 1.0,
        refiner_every: int = 1,
        segmentor_every: int = 1,
        segmentor_epochs: int | None = None,
    ) -> None:
        if refiner_every > 1 and segmentor_every != 1:
            raise ValueError(
                f"refiner_every is {refiner_every} and segmentor_every {segmentor_every}; expected 1 for at least one "
                "of them, else some mini-batches would train nothing"
            )
        if pretrain_epochs < 0 or refiner_every < 1 or segmentor_every < 1:
            raise ValueError(
                f"pretrain_epochs {pretrain_epochs}, refiner_every {refiner_every}, segmentor_every {segmentor_every}; "
                "expected at least 0, 1 and 1"
            )
        if segmentor_epochs is not None and segmentor_epochs < pretrain_epochs:
            raise ValueError(
                f"segmentor_epochs is {segmentor_epochs}, pretrain_epochs {pretrain_epochs}; expected as many or more: "
                "raise it, or leave it out to train the segmentor in every epoch"
            )
        if segmentor_epochs is not None and refiner_every > 1:
            raise ValueError(
                f"segmentor_epochs is {segmentor_epochs} and refiner_every {refiner_every}; expected refiner_every 1, "
                "else some mini-batches would train nothing once the segmentor rests"
            )
        self.pretrain_epochs = pretrain_epochs
        self.segmentor_epochs = segmentor_epochs
        self.collaboration_start = pretrain_epochs if collaboration_start is None else collaboration_start
        self.lambda_diff = lambda_diff
        self.refiner_every = refiner_every
        self.segmentor_every = segmentor_every
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: AlternateCollaborativeTrainer, max_epochs: int | None = None) -> None:
        """Registers the handler.

        Args:
            engine: the trainer.
            max_epochs: epochs in all; the trainer's where it is left out.
        """
        engine.add_event_handler(
            Events.STARTED, lambda: self._warn_of_missing_phases(max_epochs or engine.state.max_epochs)
        )
        engine.add_event_handler(Events.EPOCH_STARTED, self._announce)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_plan)

    def phase(self, epoch: int) -> str:
        """``"pretrain"``, ``"alternate"`` or ``"refine"`` in 1-based ``epoch``."""
        if epoch <= self.pretrain_epochs:
            return PRETRAINING
        return ALTERNATING if self.segmentor_epochs is None or epoch <= self.segmentor_epochs else REFINING

    def plan(self, epoch: int, window: int) -> UpdatePlan:
        """The plan for 1-based ``epoch`` and 0-based mini-batch (accumulation window) ``window`` within it."""
        phase = self.phase(epoch)
        if phase == PRETRAINING:
            return UpdatePlan(updates_refiner=False, lambda_diff=0.0)
        if phase == REFINING:
            return UpdatePlan(updates_segmentor=False)
        return UpdatePlan(
            updates_segmentor=window % self.segmentor_every == 0,
            updates_refiner=window % self.refiner_every == 0,
            lambda_diff=self.lambda_diff if epoch > self.collaboration_start else 0.0,
        )

    def _warn_of_missing_phases(self, max_epochs: int | None) -> None:
        if max_epochs is None:
            return
        if max_epochs <= self.pretrain_epochs:
            self.logger.warning(
                f"max_epochs is {max_epochs}, all of them pre-training (pretrain_epochs is "
                f"{self.pretrain_epochs}): the refiner is not trained; lower pretrain_epochs to train it"
            )
        elif self.segmentor_epochs is not None and max_epochs <= self.segmentor_epochs:
            self.logger.warning(
                f"max_epochs is {max_epochs}, segmentor_epochs {self.segmentor_epochs}: the refiner never goes on "
                "alone; raise max_epochs, or leave out segmentor_epochs"
            )

    def _announce(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if epoch == 1 or self.phase(epoch) != self.phase(epoch - 1):
            self.logger.info(f"epoch {epoch}: phase '{self.phase(epoch)}' starts")

    def _set_plan(self, engine: AlternateCollaborativeTrainer) -> None:
        engine.plan = self.plan(engine.state.epoch, engine.accumulation_window[0])
