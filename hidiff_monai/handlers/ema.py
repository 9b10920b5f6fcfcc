"""The running average of the weights."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

from hidiff_monai.engines import AlternateCollaborativeTrainer


class ResumableEMA(EMAHandler):
    """Ignite's exponential moving average of a ``HiDiff`` network, each part over its own steps, also when resumed.

    A part that rests in an iteration keeps its average. Else the average of a segmentor that steps in every fourth
    mini-batch would span a quarter of the steps, and the prior would get worse where the alternation begins.

    Ignite counts the events of the warm-up since the start of the process; here every epoch sets that count to the
    iterations done.
    """

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Registers the handler; takes the arguments of ``EMAHandler.attach``, with an event of every iteration."""
        super().attach(engine, *args, **kwargs)
        engine.add_event_handler(Events.EPOCH_STARTED, self._count)

    def _count(self, engine: Engine) -> None:
        scheduler = getattr(self, "momentum_scheduler", None)  # only there with a warm-up
        if scheduler is not None:
            scheduler.event_index = engine.state.iteration

    def _update_ema_model(self, engine: AlternateCollaborativeTrainer, name: str) -> None:  # type: ignore[override]
        network, average = self.model, self.ema_model
        steps = {"segmentor": engine.plan.updates_segmentor, "refiner": engine.plan.updates_refiner}
        for part in (part for part, is_trained in steps.items() if is_trained):
            self.model, self.ema_model = getattr(network, part), getattr(average, part)
            super()._update_ema_model(engine, name)
        self.model, self.ema_model = network, average
