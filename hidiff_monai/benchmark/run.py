"""Runs the parts that are asked for, unit by unit; what is complete is kept, and not measured again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hidiff_monai.benchmark.figure import draw_results
from hidiff_monai.benchmark.growth import plan_growth
from hidiff_monai.benchmark.inference import plan_inference
from hidiff_monai.benchmark.layers import plan_layers
from hidiff_monai.benchmark.results import FIGURE, Content, command_line, is_measured, open_results, write_results
from hidiff_monai.benchmark.settings import PARTS, Settings, Unit
from hidiff_monai.benchmark.step import plan_steps
from hidiff_monai.benchmark.training_part import plan_training
from hidiff_monai.io import require_writable, write_atomically

PLANS: dict[str, Callable[[Settings], Iterator[Unit]]] = {
    "layers": plan_layers,
    "step": plan_steps,
    "inference": plan_inference,
    "training": plan_training,
    "growth": plan_growth,
}


def run_benchmark(parts: Sequence[str], settings: Settings, output: str | Path) -> Content:
    """Measures, and writes the results after every unit and the figure at the end.

    Args:
        parts: some of `PARTS`; all of them where there is none.
        settings: how large and how long.
        output: the folder; what is complete there, with the same settings, is taken as it is.

    Raises:
        ValueError: if a part is unknown, or the folder holds another run.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"parts {unknown} are unknown; expected some of {', '.join(PARTS)}, or none of them for all")
    output = require_writable(output)
    content = open_results(output, settings, command_line())
    units = [unit for part in PARTS if part in (parts or PARTS) for unit in PLANS[part](settings)]
    missing = [unit for unit in units if not is_measured(content["units"].get(unit.key))]
    if len(missing) < len(units):
        print(f"{len(units) - len(missing)} of {len(units)} units are there already: {output}", file=sys.stderr)
    for number, unit in enumerate(missing, 1):
        print(f"{number}/{len(missing)} {unit.key}", file=sys.stderr)
        content["units"][unit.key] = unit.run()
        write_results(output, content)
    figure = draw_results(content)
    if figure is not None:
        with write_atomically(output / FIGURE) as temporary:
            temporary.write_bytes(figure)
    return content
