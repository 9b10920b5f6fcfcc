"""The verb ``hidiff benchmark``; it imports what it needs when it is called."""

from __future__ import annotations

import json
from typing import Any


def benchmark(
    *parts: str,
    width: int = 128,
    image_size: int = 256,
    rounds: int = 15,
    seconds: float = 30.0,
    threads: tuple[int, ...] = (1, 2),
    batches: tuple[int, ...] = (1, 4),
    memory_limit_gib: float | None = None,
    output: str = "benchmark_results",
    as_json: bool = False,
    quick: bool = False,
) -> None:
    """Times the packed refiner against float32, emulation and its real-valued twin, side by side in one process.

    Run again with the same output and settings, it goes on behind what is complete.

    Args:
        parts: some of layers, step, inference, training, growth; all where there is none.
        width: channels of the refiner at full resolution; the paper's are 128.
        image_size: edge of the image in pixels.
        rounds: in which every candidate runs once; fewer where the seconds are over, but at least 3.
        seconds: after which no further round begins, of each measurement.
        threads: numbers of threads, with commas between them.
        batches: images in a step of the refiner, likewise.
        memory_limit_gib: leaves out what would need more; four fifths of what is free where it is left out.
        output: the folder for benchmark.json and benchmark.png.
        as_json: prints the results' file instead of tables.
        quick: everything tiny, in seconds, to see that it runs.
    """
    from hidiff_monai.benchmark.run import run_benchmark
    from hidiff_monai.benchmark.settings import Settings
    from hidiff_monai.benchmark.tables import format_results

    settings = Settings(
        width=width,
        image_size=image_size,
        rounds=rounds,
        seconds=seconds,
        threads=_split(threads),
        batches=_split(batches),
        memory_limit_gib=memory_limit_gib,
    )
    names = [str(name).strip() for part in parts for name in _split(part)]
    content = run_benchmark(names, settings.quick() if quick else settings, str(output))
    print(json.dumps(content, indent=1) if as_json else format_results(content))


def _split(values: Any) -> tuple[Any, ...]:
    """What fire made of 1,2 or of 1; of words with commas between them, the words."""
    if isinstance(values, str):
        return tuple(values.split(","))
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)
