"""A progress bar with both losses."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from ignite.handlers.tqdm_logger import ProgressBar

from hidiff_monai.handlers.output import output_losses


class LossProgressBar(ProgressBar):
    """Ignite's progress bar, showing the losses of the networks that a mini-batch trained, rate and time left."""

    def attach(self, engine: Engine, *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Registers the bar."""
        super().attach(engine, output_transform=output_losses)
