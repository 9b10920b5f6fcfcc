"""What is known of each case of a run, a file a case: what an interrupted run goes on from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from hidiff_monai.io import hash_file, write_atomically
from hidiff_monai.io.files import remove_unfinished

OUTPUTS = ("{}_mask.png", "{}_mask.nii.gz", "{}_mask.dcm", "{}_rtstruct.dcm", "pictures/{}.png") + tuple(
    f"{{}}_entropy{suffix}" for suffix in (".png", ".nii.gz", ".dcm")
)


class ForeignFileError(ValueError):
    """A file in the output folder that no run has written: it stays, in every run, until it is moved."""


class Records:
    """The folder ``cases/`` of a run: ``<id>.json`` says "begun" first, and "done" when all of the case is there.

    Args:
        output: the run's folder.
        settings: everything beside its files that a case's result depends on, as JSON values.
        needs_picture: whether a case without a picture is not done.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], needs_picture: bool) -> None:
        self.output = output
        self.settings = settings
        self.needs_picture = needs_picture

    def find_done(self, item: Mapping[str, Any], fingerprint: str) -> dict[str, Any] | None:
        """The record of a case that was done before with the same fingerprint and whose files are there, else None."""
        record = self.read(item)
        before = (record or {}).get("before")
        if isinstance(before, dict) and before.get("fingerprint") == fingerprint:
            record = self._restore(item, before)
        try:
            is_same = record is not None and record["status"] == "done" and record["fingerprint"] == fingerprint
            names = [*record["outputs"].values()] if record is not None and is_same else [""]
        except (KeyError, TypeError, AttributeError):
            return None
        names += [f"pictures/{item['id']}.png"] if self.needs_picture else []
        is_whole = all((self.output / name).is_file() and (self.output / name).stat().st_size for name in names)
        return record if is_whole else None

    def _restore(self, item: Mapping[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        """The record of a case that stands, which attempts with other settings might not replace; as old as it was."""
        told_ns = before.pop("told_ns")
        record = self._write(item, before)
        os.utime(self._file(item), ns=(told_ns, told_ns))
        return record

    def begin(self, item: Mapping[str, Any]) -> None:
        """Takes away what an earlier run left of a case, so that nothing of it stands beside the new result.

        Raises:
            ForeignFileError: if a file of such a name is there that no run of this folder has written.
            ValueError: if it was changed since, or is the result of other files, such as another patient's.
        """
        files = [self.output / name.format(item["id"]) for name in OUTPUTS]
        there = [file for file in files if file.exists()]
        record = self.read(item)
        written = (record or {}).get("written", {})
        known = (file for file in there if file.name in written and file.stat().st_size)
        changed = next((file for file in known if written[file.name] != hash_file(file)), None)
        if changed is not None:
            raise ValueError(
                f"{changed.name}: was changed after `hidiff predict` wrote it; expected its own result: move it, or "
                "choose another --output"
            )
        foreign = there if record is None or record.get("foreign") else self._strangers(there, record)
        if foreign:
            raise ForeignFileError(
                f"{foreign[0].name}: is in the output folder already, and not from a run of `hidiff predict`; expected "
                "no such file: move it, or choose another --output"
            )
        owner = record.get("owner") if record else None
        if there and owner not in (None, _owner(item)):
            raise ValueError(
                f"{item['id']}: the output folder has the results of another input of this name; expected one input an "
                "output folder: choose another --output, or remove them if the input was moved"
            )
        begun = {"status": "begun", "owner": _owner(item)}
        if there:
            self._write(item, {**begun, "written": written})  # where one of them cannot be removed
        self.discard(item)
        self._write(item, begun)

    def discard(self, item: Mapping[str, Any]) -> None:
        """Takes away all files of a case that was begun, and what a killed process left half written."""
        for file in (self.output / name.format(item["id"]) for name in OUTPUTS):
            file.unlink(missing_ok=True)
            remove_unfinished(file.parent, escape(file.name))

    def edited(self, record: Mapping[str, Any]) -> list[str]:
        """Names of the files of a case that were changed after they were written, and then the record."""
        told_ns = self._told_ns(record)
        return [name for name, known in record.get("written", {}).items() if self._is_edited(name, known, told_ns)]

    def _told_ns(self, record: Mapping[str, Any]) -> int:
        return self._file(record).stat().st_mtime_ns

    def _is_edited(self, name: str, known: str, told_ns: int) -> bool:
        file = self.output / name
        try:
            return file.stat().st_mtime_ns > told_ns and hash_file(file) != known
        except FileNotFoundError:
            return False
        except OSError:
            return True  # as good as unknown

    @staticmethod
    def _strangers(there: list[Path], record: Mapping[str, Any]) -> list[Path]:
        """Files that no attempt has written, unless one was killed in its midst; pictures are always ours."""
        if record.get("status") == "begun" or "written" not in record:
            return []
        return [file for file in there if file.parent.name != "pictures" and file.name not in record["written"]]

    def finish(self, item: Mapping[str, Any], record: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
        """Keeps the record of a case, with its fingerprint, by a hash the files whose results are there, and theirs.

        A case that was done, and that this attempt was not allowed to begin, keeps the record of that as well.
        """
        known = self.read(item) or {}
        before = {**known, "told_ns": self._told_ns(known)} if known.get("status") == "done" else known.get("before")
        files = [self.output / name for name in (record.get("outputs") or {}).values()]
        written = {file.name: hash_file(file) for file in files} or known.get("written", {})
        owner = known.get("owner", _owner(item))
        kept = {} if before is None else {"before": before}
        return self._write(item, {**record, "fingerprint": fingerprint, "owner": owner, "written": written, **kept})

    def fingerprint(self, files: Sequence[Path]) -> str:
        """SHA-256 of names, sizes and times of a case's files, and of the settings; empty where a file is gone."""
        try:
            stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        except OSError:
            return ""
        return hashlib.sha256(json.dumps([stats, self.settings], sort_keys=True).encode()).hexdigest()

    def read(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of a case, whatever it says; None where there is none."""
        try:
            record = json.loads(self._file(item).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _write(self, item: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        content = {"id": item["id"], **record}
        with write_atomically(self._file(item)) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return content

    def _file(self, item: Mapping[str, Any]) -> Path:
        return self.output / "cases" / f"{item['id']}.json"


def files_of(item: Mapping[str, Any]) -> list[Path]:
    """The files a case is read from."""
    return [Path(item["image"])] if isinstance(item["image"], str) else [Path(file) for file in item["image"]]


def _owner(item: Mapping[str, Any]) -> str:
    paths = [os.path.realpath(file) for file in files_of(item)]
    return hashlib.sha256(json.dumps(paths).encode()).hexdigest()


def with_safe_id(item: Mapping[str, Any]) -> dict[str, Any]:
    """The case with a name that every file system takes: no bytes that are no text, and not too long."""
    name = str(item["id"])
    safe = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "_")
    if len(safe.encode()) > MAX_BYTES:
        safe = safe.encode()[: MAX_BYTES - 9].decode("utf-8", "ignore")
    if safe != name:
        safe = f"{safe}_{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    return {**item, "id": safe}


MAX_BYTES = 150  # of the 255 that a file name may have
