"""What a run depends on outside this package: versions, processor, packed operators, accelerators, compiler."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hidiff_monai import __version__, ops
from hidiff_monai.ops import build

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "scikit-image", "nibabel", "pydicom", "itk")
# What each is for; nothing else needs them.
OPTIONAL_PACKAGES = {
    "highdicom": "writes DICOM-SEG",
    "h5py": "prepares Synapse volumes",
    "mlflow-skinny": "--tracking mlflow",
    "huggingface-hub": "publish-check --push",
    "triton": "torch.compile",
}
# Of the processor's many flags those that the packed operators ask for.
FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vpopcntdq")


class Processor(NamedTuple):
    """A processor.

    Attributes:
        model: its name.
        family: its number, where Linux tells it.
        flags: what it can do, in Linux's spelling.
    """

    model: str
    family: str | None
    flags: set[str]


def describe_environment() -> dict[str, dict[str, Any]]:
    """Sections of names and values, for a bug report or the log of an experiment; reads, and changes nothing."""
    return {
        "versions": _describe_versions(),
        "processor": _describe_processor(),
        "packed operators": _describe_operators(),
        "accelerators": _describe_accelerators(),
        "optional packages": {name: _find_version(name, use) for name, use in OPTIONAL_PACKAGES.items()},
    }


def format_environment(sections: dict[str, dict[str, Any]]) -> str:
    """One line for each value, under its section."""
    width = max(len(name) for section in sections.values() for name in section)
    blocks = []
    for title, section in sections.items():
        blocks.append("\n".join([title, *(f"  {name:<{width}}  {_as_text(value)}" for name, value in section.items())]))
    return "\n\n".join(blocks)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)


def _describe_versions() -> dict[str, Any]:
    versions = {"hidiff-monai": __version__, "python": platform.python_version(), "system": platform.platform()}
    return {**versions, **{name: _find_version(name, "needed") for name in PACKAGES}}


def _find_version(package: str, use: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"not installed ({use})"


def _describe_processor() -> dict[str, Any]:
    processor = read_processor()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": processor.model,
        "architecture": platform.machine(),
        "instruction sets": [flag for flag in FLAGS if flag in processor.flags],
        "cores": os.cpu_count(),
        "cores for this process": usable,
        "threads of torch": torch.get_num_threads(),
    }


def read_processor() -> Processor:
    """The processor that this runs on, as far as the system tells."""
    fallback = platform.processor() or platform.machine() or "unknown"
    try:
        if sys.platform == "darwin":
            keys = ["machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
            lines = subprocess.run(
                ["sysctl", "-n", *keys], capture_output=True, text=True, timeout=5
            ).stdout.splitlines()
            return Processor((lines or ["unknown"])[0], None, set(" ".join(lines[1:]).lower().split()))
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return Processor(fallback, None, set())
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Processor(values.get("model name", fallback), values.get("cpu family"), set(values.get("flags", "").split()))


def _describe_operators() -> dict[str, Any]:
    status = ops.status()
    return {
        "instruction set": status.instruction_set,
        "because": status.reason,
        "available": status.available,
        "threads": status.num_threads,
        "library": "none" if status.library is None else str(status.library),
        "sources changed since": status.is_outdated,
        "compiler": _describe_compiler(),
    }


def _describe_compiler() -> str:
    try:
        command = build.find_compiler()
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=5).stdout.splitlines()
    except (build.BuildError, OSError, subprocess.TimeoutExpired) as error:
        return f"none: {error}"
    return f"{' '.join(command)}: {shown[0] if shown else 'of unknown version'}"


def _describe_accelerators() -> dict[str, Any]:
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return {
        "cuda of torch": torch.version.cuda or "none",
        "cuda devices": devices,
        "mps": torch.backends.mps.is_available(),
    }
