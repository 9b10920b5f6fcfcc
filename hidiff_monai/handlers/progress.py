"""A progress bar with both losses."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from ignite.handlers.tqdm_logger import ProgressBar


class LossProgressBar(ProgressBar):
    """Ignite's progress bar, showing the losses of the networks that a mini-batch trained, rate and time left."""

    def attach(self, engine: Engine, *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Registers the bar."""
        super().attach(engine, output_transform=_losses)


def _losses(output: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in output.items() if key.startswith("loss_")}
