"""What a run of the benchmark is asked for, and the pieces it consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from hidiff_monai.benchmark.models import CALIBRATION_SIZE, WIDTH
from hidiff_monai.benchmark.timing import Rounds

PARTS = ("layers", "step", "inference", "training", "growth")
LEAST_ROUNDS = 3
QUICK_WIDTH, QUICK_ROUNDS = 8, 2


class Unit(NamedTuple):
    """The smallest piece that is measured and kept.

    Attributes:
        key: its name in the results, the part first.
        run: measures it; plain values, for JSON.
    """

    key: str
    run: Callable[[], dict[str, Any]]


def count(number: int, noun: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class Settings:
    """How large and how long.

    Attributes:
        width: channels of the refiner at full resolution; the paper's are 128.
        image_size: edge of the square image in pixels, a multiple of 32.
        rounds: of every unit, at most.
        seconds: after which a unit gets no further round, but for the first `LEAST_ROUNDS`.
        threads: numbers of threads, each measured.
        batches: of the refiner's steps.
        growth_sizes: edges of the images whose time and memory are followed.
        growth_samples: numbers of samples likewise.
        memory_limit_gib: what would need more is left out; None for four fifths of what is free.
        is_quick: everything tiny, to see that it runs.
    """

    width: int = WIDTH
    image_size: int = 256
    rounds: int = 15
    seconds: float = 30.0
    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 4)
    growth_sizes: tuple[int, ...] = (128, 256, 512, 1024)
    growth_samples: tuple[int, ...] = (1, 2, 4, 8)
    memory_limit_gib: float | None = None
    is_quick: bool = False

    def __post_init__(self) -> None:
        whole = {"width": self.width, "rounds": self.rounds, "image_size": self.image_size}
        wrong = {name: value for name, value in whole.items() if not isinstance(value, int) or value < 1}
        if wrong:
            raise ValueError(f"{wrong}; expected whole numbers of at least 1")
        for name in ("threads", "batches", "growth_sizes", "growth_samples"):
            values = getattr(self, name)
            if not values or not all(isinstance(value, int) and value >= 1 for value in values):
                raise ValueError(f"{name} is {values}; expected whole numbers of at least 1, with commas between them")
        if self.image_size % 32 or any(size % 32 for size in self.growth_sizes):
            raise ValueError(f"image sizes are {self.image_size} and {self.growth_sizes}; expected multiples of 32")
        if self.width % 4:
            raise ValueError(f"width is {self.width}; expected a multiple of 4, for the four heads of the X-Former")

    @property
    def limits(self) -> Rounds:
        """The rounds of a unit."""
        return Rounds(min(LEAST_ROUNDS, self.rounds), self.rounds, self.seconds)

    @property
    def most_threads(self) -> int:
        """The largest of `threads`."""
        return max(self.threads)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def quick(self) -> Settings:
        """The same, tiny: seconds in all."""
        return replace(
            self,
            width=QUICK_WIDTH,
            image_size=CALIBRATION_SIZE,
            rounds=QUICK_ROUNDS,
            seconds=0.0,
            threads=(1,),
            batches=(1,),
            growth_sizes=(CALIBRATION_SIZE, 2 * CALIBRATION_SIZE),
            growth_samples=(1, 2),
            is_quick=True,
        )
