"""The cost of a refiner as figures: what ``complexity`` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BINARY_PER_OPERATION = 64  # binary multiply-adds that count as one operation (HiDiff, Sec. IV-F)


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of convolutions, linear layers and attention; pointwise work is not counted.

    Attributes:
        real: with at least one real-valued factor.
        binary: with both factors in {-1, +1}.
    """

    real: int = 0
    binary: int = 0

    @property
    def total(self) -> float:
        """Real multiply-adds + binary ones / 64."""
        return self.real + self.binary / BINARY_PER_OPERATION

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.real + other.real, self.binary + other.binary)


@dataclass(frozen=True)
class Storage:
    """Bytes of a packed refiner, without a file's header.

    Attributes:
        binary_weights: one bit each.
        binary_scales: mean|W| per output channel, float32.
        real_weights: other convolutions, BatchNorm folded to scale and shift, slopes; float32.
        time_tables: functions of t alone (thresholds of TB, shifts of TA), one float32 row per step.
    """

    binary_weights: int
    binary_scales: int
    real_weights: int
    time_tables: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.binary_weights + self.binary_scales + self.real_weights + self.time_tables


@dataclass(frozen=True)
class ComplexityReport:
    """Cost of one refiner at one image size.

    Attributes:
        image_size: (H, W).
        num_steps: steps of the reverse chain.
        real_parameters: trained parameters that stay real-valued, time embedding and its linear layers included.
        binary_parameters: trained parameters that are used as signs.
        storage: packed for inference.
        per_image: computed once, whatever the number of steps and samples.
        per_step: computed in every step of every sample.
        step_parts: ``per_step`` by part of the refiner.
    """

    image_size: tuple[int, int]
    num_steps: int
    real_parameters: int
    binary_parameters: int
    storage: Storage
    per_image: Operations
    per_step: Operations
    step_parts: dict[str, Operations]

    @property
    def total(self) -> Operations:
        """One image, one sample: ``per_image`` + ``num_steps`` * ``per_step``."""
        steps = Operations(self.num_steps * self.per_step.real, self.num_steps * self.per_step.binary)
        return self.per_image + steps

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""

        def plain(operations: Operations) -> dict[str, float]:
            return {"real": operations.real, "binary": operations.binary, "operations": operations.total}

        return {
            "image_size": list(self.image_size),
            "num_steps": self.num_steps,
            "parameters": {"real": self.real_parameters, "binary": self.binary_parameters},
            "packed_bytes": {**vars(self.storage), "total": self.storage.total},
            "per_image": plain(self.per_image),
            "per_step": plain(self.per_step),
            "total": plain(self.total),
            "step_parts": {name: plain(operations) for name, operations in self.step_parts.items()},
        }

    def format(self) -> str:
        """A text table with its conventions."""
        storage = self.storage
        rows = {"once per image": self.per_image, "per step": self.per_step, f"{self.num_steps} steps": self.total}
        parts = {f"  {name}": operations for name, operations in self.step_parts.items()}
        lines = [f"{'multiply-adds (1e9)':24}{'real':>10}{'binary':>10}{'operations':>12}"]
        for name, cost in (rows | {"one step, by part:": Operations()} | parts).items():
            figures = f"{cost.real / 1e9:10.4f}{cost.binary / 1e9:10.4f}{cost.total / 1e9:12.4f}"
            lines.append(f"{name:24}{figures}" if cost != Operations() else name)
        lines += [
            f"{'parameters':24}{self.real_parameters:>10,} real, {self.binary_parameters:,} binary (1 bit)",
            f"{'packed (MB = 1e6 bytes)':24}{storage.total / 1e6:10.2f} = {storage.binary_weights / 1e6:.2f} binary + "
            f"{storage.binary_scales / 1e6:.2f} their scales + {storage.real_weights / 1e6:.2f} real + "
            f"{storage.time_tables / 1e6:.2f} tables over t",
            f"Image {self.image_size[0]} x {self.image_size[1]}. Operations = real + binary / {BINARY_PER_OPERATION}; "
            "convolutions, linear layers and attention are counted, pointwise work is not. Counts, not a running time.",
        ]
        return "\n".join(lines)
