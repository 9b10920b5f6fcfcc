"""A progress bar with both losses."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from ignite.handlers.tqdm_logger import ProgressBar

from hidiff_monai.handlers.output import output_losses

BAR_FORMAT = "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}{postfix} [{elapsed}<{remaining}, {rate_fmt}]"


class LossProgressBar(ProgressBar):
    """Ignite's progress bar, showing the losses of the networks that a mini-batch trained, rate and time left.

    Args:
        kwargs: arguments of ignite's ``ProgressBar`` and of tqdm.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"bar_format": BAR_FORMAT, **kwargs})

    def attach(self, engine: Engine, *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Registers the bar."""
        super().attach(engine, output_transform=output_losses)
