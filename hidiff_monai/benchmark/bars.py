"""What the packed network promises at the paper's size, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hidiff_monai.benchmark.forms import CLEAN, EMULATION, PACKED_AVX2
from hidiff_monai.benchmark.models import NUM_TIMESTEPS, WIDTH
from hidiff_monai.benchmark.settings import count
from hidiff_monai.benchmark.timing import Measurement
from hidiff_monai.benchmark.training_part import PLAIN, TRAINER

Row = dict[str, Any]

PAPER_SIZE = 256  # edge of the image in pixels
LAYER_LARGE, LAYER_SMALL = 8.0, 12.0  # times float32: at the full size and for 1x1 layers; at half the size and below
LOOP_CLEAN, LOOP_EMULATION, LOOP_AVX2 = 12.0, 30.0, 2.5
OPERATIONS, FILE_BYTES, TWIN_RATIO = 0.41e10, 18.6e6, 22.0
TRAINING, SMALLEST_TRAINED = 1.8, 128
MEMORY_GIB, MEMORY_SIZE = 4.0, 1024


@dataclass(frozen=True)
class Bar:
    """One promise.

    Attributes:
        what: it is about.
        got: what was measured.
        bound: what it should be.
        is_floor: at least the bound; False for at most.
    """

    what: str
    got: float
    bound: float
    is_floor: bool = True

    @property
    def is_met(self) -> bool:
        """Whether it is kept."""
        return self.got >= self.bound if self.is_floor else self.got <= self.bound

    def format(self) -> str:
        """One line."""
        sign = ">=" if self.is_floor else "<="
        return f"{'met   ' if self.is_met else 'MISSED'} {self.what}: {self.got:.4g} (expected {sign} {self.bound:.4g})"


def check_bars(units: list[Row]) -> list[Bar]:
    """Those that what was measured can answer: of the paper's size, or of no size."""
    return [bar for unit in units for bar in CHECKS[unit["part"]](unit)]


def _layer(unit: Row) -> list[Bar]:
    is_large = unit["kernel_size"] == 1 or unit["size"] * unit["stride"] > PAPER_SIZE // 2
    if unit["width"] != WIDTH or unit["image_size"] != PAPER_SIZE:
        return []
    what = f"{unit['name']}, {count(unit['threads'], 'thread')}, times {unit['baseline']}"
    return [Bar(what, unit["speedups"][unit["baseline"]], LAYER_LARGE if is_large else LAYER_SMALL)]


def _step(unit: Row) -> list[Bar]:
    if unit["width"] != WIDTH or unit["image_size"] != PAPER_SIZE:
        return []
    if "candidates" not in unit:
        return [
            Bar("operations per step", unit["operations_per_step"], OPERATIONS, is_floor=False),
            Bar("packed file, bytes", unit["file_bytes"], FILE_BYTES, is_floor=False),
            Bar("fewer operations than the real-valued twin, times", unit["twin_ratio"], TWIN_RATIO),
        ]
    if unit["steps"] != NUM_TIMESTEPS:
        return []
    what = unit["title"]
    bars = [
        Bar(f"{what}, times {CLEAN}", unit["speedups"][CLEAN], LOOP_CLEAN),
        Bar(f"{what}, times {EMULATION}", unit["speedups"][EMULATION], LOOP_EMULATION),
    ]
    if PACKED_AVX2 in unit["candidates"]:
        ratio = Measurement.from_dict(unit).speedup(PACKED_AVX2, CLEAN)
        bars.append(Bar(f"{what}, AVX2, times {CLEAN}", ratio, LOOP_AVX2))
    return bars


def _training(unit: Row) -> list[Bar]:
    if unit["image_size"] < SMALLEST_TRAINED:
        return []
    return [Bar(f"training step, {unit['title']}, times {PLAIN}", unit["speedups"][TRAINER], TRAINING)]


def _growth(unit: Row) -> list[Bar]:
    if unit["width"] != WIDTH or unit["image_size"] != MEMORY_SIZE or "compiled" not in unit["memory"]:
        return []
    peak_gib = unit["memory"]["compiled"]["peak_gib"]
    return [Bar(f"{MEMORY_SIZE}^2 image, GiB", peak_gib, MEMORY_GIB, is_floor=False)]


def _none(unit: Row) -> list[Bar]:
    return []


CHECKS: dict[str, Callable[[Row], list[Bar]]] = {
    "layers": _layer,
    "step": _step,
    "inference": _none,
    "training": _training,
    "growth": _growth,
}
