"""What one step of the packed refiner computes, and what its file takes: of the object and the file themselves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hidiff_monai.benchmark.forms import EMULATION, PACKED, make_form
from hidiff_monai.benchmark.models import NUM_TIMESTEPS
from hidiff_monai.benchmark.settings import Settings
from hidiff_monai.metrics import complexity
from hidiff_monai.networks.packed_complexity import packed_complexity
from hidiff_monai.networks.packed_file import hash_tensors, write_packed


def measure_size(settings: Settings) -> dict[str, Any]:
    """Operations of a step (64 binary multiply-adds are one) and bytes of the file, plain."""
    packed, trained = (make_form(name, settings.width).refiner for name in (PACKED, EMULATION))
    size = (settings.image_size, settings.image_size)
    counted, written = packed_complexity(packed, size), complexity(trained, size, NUM_TIMESTEPS).per_step
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        write_packed(packed, path, hash_tensors(trained.state_dict()))
        file_bytes = path.stat().st_size
    step, twin = counted.per_step, counted.real_twin
    return {
        "part": "step",
        "width": settings.width,
        "image_size": settings.image_size,
        "operations_per_step": step.total,
        "real_per_step": step.real,
        "binary_per_step": step.binary,
        "trained_operations_per_step": written.total,
        "twin_operations_per_step": twin.total,
        "twin_ratio": counted.ratio,
        "file_bytes": file_bytes,
        "text": [
            f"operations per step of the packed refiner: {_tens(step.total)} = {_tens(step.real)} real + "
            f"{_tens(step.binary)} binary / 64; of the module as it was trained: {_tens(written.total)}",
            f"of its real-valued twin: {_tens(twin.total)}, {counted.ratio:.1f} times as many",
            f"file of the packed refiner: {file_bytes / 1e6:.2f} MB",
        ],
    }


def _tens(operations: float) -> str:
    """In units of ten thousand million, as the bar is."""
    return f"{operations / 1e10:.4f}e10"
