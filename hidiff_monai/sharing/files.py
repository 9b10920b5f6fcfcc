"""Which files of a bundle's folder are published, and which of them the zoo fetches from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

LARGE_FILES = ("large_files.yml", "large_files.yaml", "large_files.json")
# What runs leave in a bundle's folder, as .gitignore has it.
LEFTOVERS = ("output*", "eval*", "runs", "__pycache__", ".*")


def list_published(bundle: Path) -> list[Path]:
    """The files that belong to a bundle, sorted: neither hidden ones nor what a run left behind."""
    files = (path for path in bundle.rglob("*") if path.is_file())
    return sorted(file for file in files if not _is_left_over(file.relative_to(bundle)))


def _is_left_over(file: Path) -> bool:
    is_in_leftovers = any(Path(file.parts[0]).match(pattern) for pattern in LEFTOVERS)
    return is_in_leftovers or any(part.startswith(".") or part == "__pycache__" for part in file.parts)


def find_config(bundle: Path, name: str) -> Path:
    """A configuration by its name without suffix; MONAI reads JSON and YAML.

    Raises:
        ValueError: if there is none.
    """
    for suffix in ("json", "yaml", "yml"):
        file = bundle / "configs" / f"{name}.{suffix}"
        if file.is_file():
            return file
    raise ValueError(f"configs holds no {name}.json; expected one: the bundle's folder is {bundle}, correct it")


def read_metadata(bundle: Path) -> dict[str, Any]:
    """The content of configs/metadata.json.

    Raises:
        ValueError: if it is missing or no JSON.
    """
    file = bundle / "configs" / "metadata.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: not readable ({error}); expected a bundle's metadata: correct it") from error


def read_large_files(bundle: Path) -> dict[str, dict[str, Any]]:
    """What the zoo downloads into the bundle, by its path in it; nothing where there is no large_files.yml.

    Raises:
        ValueError: if the file has no such list, or an entry no path.
    """
    file = next((bundle / name for name in LARGE_FILES if (bundle / name).is_file()), None)
    if file is None:
        return {}
    entries = (ConfigParser.load_config_file(file) or {}).get("large_files")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "path" in entry for entry in entries):
        raise ValueError(f"{file.name} holds no list large_files of path, url, hash_val and hash_type: write it so")
    return {str(entry["path"]): entry for entry in entries}
