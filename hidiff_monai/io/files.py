"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
NIFTI_SUFFIXES = (".nii.gz", ".nii")


def list_images(path: str | Path) -> list[str]:
    """The image files in a folder, sorted, or the one file itself.

    Raises:
        ValueError: when there is none.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder; expected a folder of images, or one: correct it")
    files = [path] if path.is_file() else sorted(path.glob("*"))
    images = [str(file) for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")]
    stems = [Path(image).stem for image in images]
    shared = sorted({stem for stem in stems if stems.count(stem) > 1})
    if shared:
        raise ValueError(
            f"{path}: several images are named {shared[:5]}; expected one of a name: their masks would clash"
        )
    if not images:
        raise ValueError(f"{path}: no image found; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return images


def is_nifti(file: Path) -> bool:
    """Whether a file is named like a NIfTI volume; hidden ones, as macOS leaves them in archives, are not meant."""
    return file.name.lower().endswith(NIFTI_SUFFIXES) and not file.name.startswith(".")


def nifti_stem(file: Path) -> str:
    """The name of a .nii or .nii.gz file without these."""
    return re.sub(r"\.nii(\.gz)?$", "", file.name, flags=re.IGNORECASE)


def list_nifti(folder: Path, pattern: str = "*") -> list[Path]:
    """The NIfTI files in a folder, sorted."""
    return sorted(file for file in folder.glob(pattern) if is_nifti(file) and not file.is_dir())


def walk_files(root: Path) -> Iterator[Path]:
    """Every file below a folder, through links too, each folder once."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder) / name for name in files)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; when the block ends well it replaces ``path``, else it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, pattern: str) -> None:
    """Removes what a killed process left of `write_atomically` in a folder, of files whose names match ``pattern``."""
    for left in folder.glob(f".{pattern}.*.tmp"):
        left.unlink(missing_ok=True)


def require_writable(folder: str | Path) -> Path:
    """Makes ``folder``, a leading ``~`` read as one's home, and proves that a file can be written there.

    Raises:
        ValueError: when it cannot.
    """
    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be written ({error.strerror}); expected a folder of your own: choose another"
        ) from error
