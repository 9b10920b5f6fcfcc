"""The running average of the weights."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler


class ResumableEMA(EMAHandler):
    """Ignite's exponential moving average, whose warm-up a resumed run continues instead of beginning it anew.

    Ignite counts the events since the start of the process; here every epoch sets that count to the iterations done.
    """

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Registers the handler; takes the arguments of ``EMAHandler.attach``, with an event of every iteration."""
        super().attach(engine, *args, **kwargs)
        engine.add_event_handler(Events.EPOCH_STARTED, self._count)

    def _count(self, engine: Engine) -> None:
        scheduler = getattr(self, "momentum_scheduler", None)  # only there with a warm-up
        if scheduler is not None:
            scheduler.event_index = engine.state.iteration
