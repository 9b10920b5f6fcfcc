"""The running average of the weights."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler


class ResumableEMA(EMAHandler):
    """Ignite's exponential moving average of a ``HiDiff`` network, with a warm-up that fits two networks and a resume.

    The refiner rests while the segmentor is pre-trained. Its warm-up begins with its first step: else its average
    would hold on to the weights it began with, 37 % of them after 100 steps, and be neither untrained nor trained.

    Ignite counts the events of the warm-up since the start of the process; here every epoch sets that count to the
    iterations done. And it averages buffers that no state dict holds, such as the frequencies of an embedding, in whose
    last bits the average would differ from what is saved; here they stay the network's.
    """

    def attach(self, engine: Engine, *args: Any, pretrain_epochs: int = 0, **kwargs: Any) -> None:
        """Registers the handler.

        Args:
            engine: the trainer.
            args: as for ``EMAHandler.attach``, with an event of every iteration.
            pretrain_epochs: epochs in which the refiner rests.
            kwargs: likewise.
        """
        super().attach(engine, *args, **kwargs)
        self.pretrain_epochs = pretrain_epochs
        saved = self.model.state_dict()
        self._unsaved = [key for key, _ in self.model.named_buffers() if key not in saved]
        engine.add_event_handler(Events.EPOCH_STARTED, self._count)

    def follow(self) -> None:
        """Begins anew at the network's weights, where they come from elsewhere."""
        self.ema_model.load_state_dict(self.model.state_dict())

    def _count(self, engine: Engine) -> None:
        scheduler = getattr(self, "momentum_scheduler", None)  # only there with a warm-up
        if scheduler is not None:
            scheduler.event_index = engine.state.iteration

    def _update_ema_model(self, engine: Engine, name: str) -> None:
        momentum, network, average = getattr(engine.state, name), self.model, self.ema_model
        steps = engine.state.iteration - self.pretrain_epochs * (engine.state.epoch_length or 0)
        warm_up = self._momentum_lambda_obj
        momenta = {"segmentor": momentum, "refiner": momentum if warm_up is None else warm_up(max(steps, 1))}
        for part, value in momenta.items():
            setattr(engine.state, name, value)
            self.model, self.ema_model = getattr(network, part), getattr(average, part)
            super()._update_ema_model(engine, name)
        self.model, self.ema_model = network, average
        for key in self._unsaved:
            average.get_buffer(key).copy_(network.get_buffer(key))
        setattr(engine.state, name, momentum)
