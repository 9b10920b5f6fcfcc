"""The results' file: every unit is written as soon as it is measured, and a rerun goes on behind the last one."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from hidiff_monai import ops
from hidiff_monai.benchmark.clock import measure_clock_hz
from hidiff_monai.benchmark.settings import Settings
from hidiff_monai.environment import read_processor
from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.report.manifest import collect_versions

FILE, FIGURE = "benchmark.json", "benchmark.png"
FORMAT = 1
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vpopcntdq", "avx512_bf16", "avx512_vnni", "amx_tile")
# between what is there and what is added
MUST_AGREE = ("cpu", "instruction_set", "torch", "hidiff_monai", "git_commit")

Content = dict[str, Any]


def describe_machine() -> dict[str, Any]:
    """Processor, instruction sets, cores, versions and commit, as JSON values."""
    processor = read_processor()
    clock_hz = measure_clock_hz()
    return {
        "cpu": f"{processor.model}, family {processor.family}" if processor.family else processor.model,
        "cpu_flags": sorted(set(INSTRUCTIONS) & processor.flags),
        "clock_ghz": None if clock_hz is None else round(clock_hz / 1e9, 2),
        "instruction_set": ops.status().instruction_set,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        **collect_versions(),
    }


def open_results(output: str | Path, settings: Settings, command: list[str]) -> Content:
    """What is in the folder already, or the beginning of it.

    Raises:
        ValueError: if what is there was measured with other settings, on another machine or with other code.
    """
    folder, machine = require_writable(output), describe_machine()
    fresh: Content = {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "settings": settings.to_dict(),
        "machine": machine,
        "units": {},
    }
    if not (folder / FILE).exists():
        return fresh
    content = read_results(folder)
    old, new = (_identity(each["settings"], each["machine"]) for each in (content, fresh))
    differing = {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}
    if differing:
        said = "; ".join(f"{key} {before!r} there, {now!r} now" for key, (before, now) in differing.items())
        raise ValueError(f"{folder / FILE} holds another run: {said}; expected the same: give another --output")
    return {**content, "settings": fresh["settings"]}


def read_results(folder: str | Path) -> Content:
    """The file of a folder.

    Raises:
        ValueError: if it is not one of these files.
    """
    file = Path(folder) / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON ({error}); expected a benchmark's results: move it away") from error
    if content.get("format") != FORMAT:
        raise ValueError(f"{file} has format {content.get('format')!r}; expected {FORMAT}: give another --output")
    return content


def write_results(output: str | Path, content: Content) -> None:
    """Replaces the file, once the new one is complete."""
    with write_atomically(Path(output) / FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def command_line() -> list[str]:
    """As it was typed, the program by its name alone."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def is_measured(unit: dict[str, Any] | None) -> bool:
    """Whether a unit is there, and all its forms: those left out for want of room may have it now."""
    return unit is not None and not unit.get("skipped")


def _identity(settings: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    measured = {key: value for key, value in settings.items() if key != "memory_limit_gib"}  # moves no time
    return {**measured, **{key: machine.get(key) for key in MUST_AGREE}}
