"""One process at a time in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: dict[Path, IO[str]] = {}  # kept open: a lock goes with any handle of its file that this process closes


def hold_lock(file: Path) -> bool:
    """Locks a file, which is made if missing, until `release_lock` or the end of this process, which may lock it again.

    Returns:
        Whether it is locked: not where the platform, the file system or the file's rights do not allow it.

    Raises:
        BlockingIOError: if another process holds it.
    """
    file = file.resolve()
    if fcntl is None or file in _held:
        return fcntl is not None
    try:
        handle = open(file, "w", encoding="utf-8")  # noqa: SIM115
    except OSError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        if isinstance(error, BlockingIOError | PermissionError):
            raise BlockingIOError(f"{file} is locked") from error
        return False
    _held[file] = handle
    return True


def release_lock(file: Path) -> None:
    """Lets another process lock the file."""
    handle = _held.pop(file.resolve(), None)
    if handle is not None:
        handle.close()
