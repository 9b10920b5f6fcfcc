"""Reading a trainer's output, decollated or not."""

from __future__ import annotations

from typing import Any


def output_items(output: Any) -> list[dict[str, Any]]:
    """One dictionary per case where the output is decollated, else a single one with the whole batch."""
    return output if isinstance(output, list) else [output]


def output_losses(output: Any) -> dict[str, float]:
    """*loss_segmentor* and *loss_refiner*, those that the mini-batch trained; decollated, every item repeats them."""
    return {key: float(value) for key, value in output_items(output)[0].items() if key.startswith("loss_")}
