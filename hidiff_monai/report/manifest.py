"""What a result was made with: versions, machine, command, checkpoint. Enough to make it again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import matplotlib
import monai
import numpy as np
import torch

import hidiff_monai
from hidiff_monai.io import hash_file, require_writable, write_atomically


def collect_versions() -> dict[str, Any]:
    """Versions, platform and device of this process, as JSON values; git_commit only where the code is a checkout."""
    facts = {
        "hidiff_monai": hidiff_monai.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
        "matplotlib": matplotlib.__version__,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})",
    }
    commit = _git_commit(Path(hidiff_monai.__file__).parent)
    return facts | ({"git_commit": commit} if commit else {})


def write_manifest(path: str | Path, **facts: Any) -> dict[str, Any]:
    """Write a JSON manifest: time, versions and the facts given, which win over those collected.

    Args:
        path: the file; what stood there is replaced once the new one is complete.
        **facts: seed, command, runtime_s and so on. `checkpoint`, a file, is written as its name and checkpoint_sha256.

    Returns:
        What was written.

    Raises:
        ValueError: the checkpoint is missing or the folder cannot be written.
    """
    manifest = {"created": datetime.now(timezone.utc).isoformat(timespec="seconds"), **collect_versions(), **facts}
    if "checkpoint" in facts:
        checkpoint = Path(facts["checkpoint"])
        if not checkpoint.is_file():
            raise ValueError(
                f"checkpoint {checkpoint} is missing; expected the file that was evaluated: check the path"
            )
        manifest |= {"checkpoint": checkpoint.name, "checkpoint_sha256": hash_file(checkpoint)}
    require_writable(Path(path).parent)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, default=str) + "\n", encoding="utf-8")
    return manifest


def _git_commit(folder: Path) -> str | None:
    """The commit the package's own folder is at, marked where tracked files differ; None outside a checkout."""
    is_tracked = ["ls-files", "--error-unmatch", "__init__.py"]  # a checkout around an installed package says nothing
    commit = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=-modified"]
    try:
        for command in (is_tracked, commit):
            result = subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=True
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
