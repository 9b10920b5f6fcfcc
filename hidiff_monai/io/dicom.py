"""DICOM image series, found in folders; `read_series` makes them volumes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset
from tqdm import tqdm

from hidiff_monai.io.dicom_header import UNREADABLE, natural_order, read_dataset, silence_dicom
from hidiff_monai.io.dicom_volume import DicomVolume, read_series
from hidiff_monai.io.files import walk_files

__all__ = ["DicomSeries", "DicomVolume", "find_series", "read_series"]

SUFFIXES = (".dcm", ".dicom")
MARK_END = 132  # bytes: a preamble, and DICM
SERIES_TAGS = ("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "SeriesNumber", "Modality", "Rows")


@dataclass(frozen=True)
class DicomSeries:
    """The files of one image series.

    Attributes:
        id: made of the user's own folder and file names; safe as a file name, unique among the series found together.
        files: paths in natural order of their names; not necessarily the order of the slices.
        modality: as in the header, for example "CT"; empty when the file could not be read.
    """

    id: str
    files: tuple[str, ...]
    modality: str


class _Found(NamedTuple):
    folder: Path
    files: list[Path]
    number: int | None
    modality: str


def find_series(root: str | Path, progress: bool = True) -> list[DicomSeries]:
    """Every image series in a folder tree, or in one file; files belong together by their SeriesInstanceUID.

    A file counts when it has DICOM's preamble or is named ``.dcm`` or ``.dicom``; hidden ones and DICOMDIR do not.
    Objects without images (RTSTRUCT, SR, PR, ...) and images that are results (SEG, parametric maps, dose) are passed
    over. A file that cannot be read joins the series of its folder if there is exactly one, for `read_series` to
    refuse: a broken slice is a missing slice. Otherwise it is a case by itself.

    Args:
        root: the folder, or a file.
        progress: whether to show a progress bar.

    Returns:
        The series in natural order of their ids: the folder below ``root``, with ``_series<SeriesNumber>`` where a
        folder holds several, or a running number where SeriesNumber is missing or repeated. None where there is none.

    Raises:
        ValueError: if there is no such folder.
    """
    root = Path(root)
    if not root.exists():
        raise ValueError(f"{root}: there is no such file or folder; expected DICOM images: correct the path")
    series: dict[tuple[str, ...], list[tuple[Path, Dataset]]] = {}
    broken = []
    files = _list_files(root)
    for file in tqdm(files, desc="Reading DICOM headers", unit="file", disable=not progress or not files):
        header = _read_header(file)
        if header is None:
            broken.append(file)
        elif _is_image(header):
            series.setdefault(_key(header), []).append((file, header))
    found = [_describe(members) for members in series.values()]
    alone = [file for file in broken if not _joins_its_folder(file, found)]
    return _make_unique(_name(root, found) + [(_id_of_file(root, file), [file], "") for file in alone])


def _list_files(root: Path) -> list[Path]:
    files = {root} if root.is_file() else {*walk_files(root)}
    found = {file for file in files if _is_dicom(file, file.relative_to(root).parts)}
    kinds = {_kind(file) for file in found}
    others = (file for file in files - found if _kind(file) in kinds and file.is_file())
    cut_off = {file for file in others if file.stat().st_size < MARK_END}
    return sorted(found | cut_off, key=natural_order)


def _kind(file: Path) -> tuple[Path, str]:
    """Files of a series are named alike but for numbers: one cut off before DICOM's mark is told by its name."""
    return file.parent, re.sub("[0-9]+", "0", file.name)


def _is_dicom(file: Path, parts: tuple[str, ...]) -> bool:
    if file.name.upper() == "DICOMDIR" or any(part.startswith(".") for part in parts) or not file.is_file():
        return False
    if file.suffix.lower() in SUFFIXES:
        return True
    try:
        with open(file, "rb") as stream:
            return stream.read(MARK_END)[-4:] == b"DICM"
    except OSError:
        return True  # told, with its folder's series, as what cannot be read


def _read_header(file: Path) -> Dataset | None:
    """The few tags that sort a file into a series, or None if it cannot be read."""
    try:
        header = read_dataset(file, SERIES_TAGS)
        with silence_dicom():
            return header if _is_whole(header) else None
    except UNREADABLE:
        return None


def _is_whole(header: Dataset) -> bool:
    """Whether the header goes far enough to know what the file is; a cut-off UID is none that DICOM knows."""
    is_known = header.SOPClassUID.name != str(header.SOPClassUID)
    if is_known and not _is_image(header):
        return True
    return bool(header.SeriesInstanceUID) and (not is_known or "Rows" in header)


def _key(header: Dataset) -> tuple[str, ...]:
    """Anonymised files of several patients may share a SeriesInstanceUID."""
    with silence_dicom():
        return tuple(str(header.get(tag, "")) for tag in ("SeriesInstanceUID", "StudyInstanceUID", "PatientID"))


def _is_image(header: Dataset) -> bool:
    """Whether the SOP class is named an image; an RT image is a projection."""
    name = header.SOPClassUID.name
    return "Image Storage" in name and not name.startswith("RT ")


def _describe(members: list[tuple[Path, Dataset]]) -> _Found:
    files, header = [file for file, _ in members], members[0][1]
    with silence_dicom():
        modality = str(header.get("Modality", "") or "")
    folder = Path(os.path.commonpath([file.parent for file in files]))
    return _Found(folder, files, _series_number(header), modality)


def _series_number(header: Dataset) -> int | None:
    """None unless it is a plain number: it becomes part of a file name."""
    try:
        with silence_dicom():
            number = int(header.SeriesNumber)
        return number if 0 <= number < 1_000_000 else None
    except UNREADABLE:
        return None


def _joins_its_folder(file: Path, found: list[_Found]) -> bool:
    neighbours = [series for series in found if file.parent in {member.parent for member in series.files}]
    if len(neighbours) == 1:
        neighbours[0].files.append(file)
    return len(neighbours) == 1


def _name(root: Path, found: list[_Found]) -> list[tuple[str, list[Path], str]]:
    named = []
    for folder in {series.folder for series in found}:
        group = [series for series in found if series.folder == folder]
        group.sort(key=lambda series: (series.number is None, series.number or 0, natural_order(series.files[0])))
        numbers = {series.number for series in group}
        is_counted = None in numbers or len(numbers) < len(group)
        for count, series in enumerate(group, start=1):
            suffix = f"_series{count if is_counted else series.number}" if len(group) > 1 else ""
            named.append((_id_of_folder(root, folder) + suffix, series.files, series.modality))
    return named


def _id_of_folder(root: Path, folder: Path) -> str:
    if root.is_file():
        return _safe(root.stem)
    return "_".join(map(_safe, folder.relative_to(root).parts)) or _safe(root.absolute().name)


def _id_of_file(root: Path, file: Path) -> str:
    return _safe(file.stem) if root.is_file() else f"{_id_of_folder(root, file.parent)}_{_safe(file.stem)}"


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "series"


def _make_unique(named: list[tuple[str, list[Path], str]]) -> list[DicomSeries]:
    """Distinct even where a file system does not tell upper from lower case."""
    series, used = [], set[str]()
    for name, files, modality in sorted(named, key=lambda entry: (natural_order(entry[0]), natural_order(entry[1][0]))):
        unique, count = name, 1
        while unique.casefold() in used:
            count += 1
            unique = f"{name}_{count}"
        used.add(unique.casefold())
        series.append(DicomSeries(unique, tuple(str(file) for file in sorted(files, key=natural_order)), modality))
    return sorted(series, key=lambda entry: natural_order(entry.id))
