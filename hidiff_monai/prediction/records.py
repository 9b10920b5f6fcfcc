"""What is known of each case of a run, a file a case: what an interrupted run goes on from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hidiff_monai.io import write_atomically


class Records:
    """The folder ``cases/`` of a run: ``<id>.json``, written when everything else of the case is there.

    Args:
        output: the run's folder.
        settings: everything beside its files that a case's result depends on, as JSON values.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.output = output
        self.folder = output / "cases"
        self.settings = settings

    def find_done(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of a case that was done before from the very same files with the same settings, else None."""
        try:
            record = json.loads(self._file(item).read_text(encoding="utf-8"))
            is_same = record["status"] == "done" and record["fingerprint"] == self.fingerprint(item)
            is_whole = is_same and all((self.output / name).is_file() for name in record["outputs"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return record if is_whole else None

    def write(self, item: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps the record of a case, with its fingerprint."""
        content = {"id": item["id"], **record, "fingerprint": self.fingerprint(item)}
        with write_atomically(self._file(item)) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return content

    def fingerprint(self, item: Mapping[str, Any]) -> str:
        """SHA-256 of names, sizes and times of a case's files, and of the settings; empty where a file is gone."""
        try:
            stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(item)]
        except OSError:
            return ""
        return hashlib.sha256(json.dumps([stats, self.settings], sort_keys=True).encode()).hexdigest()

    def _file(self, item: Mapping[str, Any]) -> Path:
        return self.folder / f"{item['id']}.json"


def files_of(item: Mapping[str, Any]) -> list[Path]:
    """The files a case is read from."""
    return [Path(item["image"])] if isinstance(item["image"], str) else [Path(file) for file in item["image"]]
