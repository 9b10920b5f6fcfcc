"""Where a run reads and writes, and how its paths are told."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hidiff_monai.io import require_writable


@dataclass(frozen=True)
class Places:
    """The folders of a run.

    Attributes:
        source: file or folder with the cases.
        output: receives everything that is written.
        labels: a reader's labels; None without.
    """

    source: Path
    output: Path
    labels: Path | None

    def relative(self, file: Path) -> str:
        """A file of a case as it stands below the input."""
        is_below = self.source.is_dir() and file.is_relative_to(self.source)
        name = file.relative_to(self.source).as_posix() if is_below else file.name
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def shorten(self, message: str) -> str:
        """A message whose paths begin below these folders: a manifest may be passed on, and folders name people."""
        for folder in (_folder_of(self.source), self.output, self.labels):
            message = message if folder is None else message.replace(f"{folder}/", "")
        return message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _folder_of(place: Path) -> Path:
    return place if place.is_dir() else place.parent


def require_places(source: str | Path, output: str | Path, labels: str | Path | None) -> Places:
    """Makes the output folder.

    Raises:
        ValueError: if input or labels are not there, or the output would mix with one of them or with another report.
    """
    # a link keeps its name: its target's may name a person
    here = Path(os.path.abspath(Path(str(source)).expanduser()))
    there = Path(str(output)).expanduser().resolve()
    if not here.exists():
        raise ValueError(f"--input {here}: there is no such file or folder; expected images: correct the path")
    folder = None if labels is None else Path(str(labels)).expanduser().resolve()
    if folder is not None and not folder.is_dir():
        raise ValueError(f"--labels {folder}: is no folder; expected one with a label for each case's name: correct it")
    for place in (here, here.resolve()):
        _require_apart(there, _folder_of(place).resolve(), "input")
    if folder is not None:
        _require_apart(there, folder, "labels")
    _require_own(there)
    return Places(here, require_writable(there), folder)


def _require_own(output: Path) -> None:
    """Page and manifest of something else, an evaluation say, would be replaced."""
    there = [name for name in ("index.html", "manifest.json") if (output / name).exists()]
    if there and not (output / "cases").is_dir() and not _is_of_run(output / "manifest.json"):
        raise ValueError(
            f"--output {output}: has {there[0]}, which no run of `hidiff predict` has written and this one would "
            "replace; expected a folder without: choose another"
        )


def _is_of_run(manifest: Path) -> bool:
    """Whether a run wrote it; one that was stopped early has left nothing else."""
    try:
        return "planned" in json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _require_apart(output: Path, folder: Path, name: str) -> None:
    if output == folder or folder in output.parents:
        mend = "a rerun would take its masks for files of yours"
        raise ValueError(f"--output {output}: lies in the folder of the {name}; expected another one: {mend}")
