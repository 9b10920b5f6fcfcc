"""Datalist JSON: which files make a case, and which cases train, validate and test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .leakage import SECTIONS
from .leakage import check_leakage as refuse_leakage

FILE_KEYS = ("image", "label", "region", "second_label")


def load_datalist(
    path: str | Path,
    dataset_dir: str | Path,
    section: str | Sequence[str],
    check_leakage: bool = True,
    fold: str | int | None = None,
) -> list[dict[str, Any]]:
    """Loads one section of a datalist, or several, as MONAI-style dictionaries.

    Args:
        path: the datalist JSON.
        dataset_dir: the folder its paths are relative to.
        section: "training", "validation" or "test", or a list of these.
        check_leakage: also makes sure that the sections share no case, patient or image (by content).
        fold: takes the sections of this fold of a cross-validation (`use_fold`) in the place of the datalist's own.

    Returns:
        One dictionary a case: "id", "patient" and whatever else it holds, with absolute paths (str) to its files.

    Raises:
        ValueError: if the datalist is malformed or leaks, or a folder, section or file is missing.
    """
    datalist = read_datalist(path) if fold is None else use_fold(read_datalist(path), fold)
    sections = [section] if isinstance(section, str) else list(section)
    present = [name for name in SECTIONS if datalist.get(name)]
    for name in sections or [""]:
        if name not in present:
            raise ValueError(f"{path}: no cases in section '{name}'; expected one of {present}: name one of these")
    root = require_folder(dataset_dir)
    if check_leakage:
        refuse_leakage(datalist, root)
    cases = [absolute_paths(case, root) for name in sections for case in datalist[name]]
    missing = [case[key] for case in cases for key in FILE_KEYS if key in case and not Path(case[key]).is_file()]
    if missing:
        raise ValueError(
            f"{missing[0]} is missing (and {len(missing) - 1} other files of {', '.join(sections)}); expected the "
            f"layout in {path}: point dataset_dir (now {root}) at the folder that holds it"
        )
    return cases


def use_fold(datalist: dict[str, Any], fold: str | int) -> dict[str, Any]:
    """The datalist with the sections of one fold of its cross-validation.

    The fold is the test section, the next one (after the last, the first) validates, the others train: over all folds
    each case is tested once, by a model that was neither trained nor chosen on it. Cases in no fold are left out, such
    as a test section that stays untouched.

    Args:
        datalist: the parsed datalist; its "folds" are {name: [ids]}.
        fold: a name among them.

    Raises:
        ValueError: if there is no such fold, fewer than three, an id that is no case, or a case or patient in two.
    """
    folds = {str(name): list(ids) for name, ids in datalist.get("folds", {}).items()}
    if str(fold) not in folds or len(folds) < 3:
        raise ValueError(
            f"fold {fold!r} of folds {list(folds)}; expected one of at least three: set fold, or 'folds' in the "
            "datalist; patients outside the test section are dealt into five, fewer patients into as many folds"
        )
    cases = {case["id"]: case for name in SECTIONS for case in datalist.get(name, [])}
    patient_of = {case_id: case.get("patient", case_id) for case_id, case in cases.items()}
    unknown = [case_id for ids in folds.values() for case_id in ids if case_id not in cases]
    if unknown:
        raise ValueError(f"folds name {unknown[:5]}, which no section holds; expected ids of cases: correct the folds")
    patients = [patient for ids in folds.values() for patient in {patient_of[case_id] for case_id in ids}]
    shared = sorted({patient for patient in patients if patients.count(patient) > 1})
    if shared:
        raise ValueError(f"patients {shared[:5]} are in several folds; expected each in one: move their cases together")
    names = list(folds)
    following = names[(names.index(str(fold)) + 1) % len(names)]
    section_of = {str(fold): "test", following: "validation"}
    sections: dict[str, list[dict[str, Any]]] = {name: [] for name in SECTIONS}
    for name, ids in folds.items():
        sections[section_of.get(name, "training")] += [cases[case_id] for case_id in ids]
    return {**datalist, **sections}


def labelled_names(path: str | Path) -> list[str]:
    """The classes that a datalist's labels hold: of `label_names` all, or those it gives as `labelled_names`."""
    datalist = read_datalist(path)
    return list(datalist.get("labelled_names", datalist["label_names"]))


def count_cases(path: str | Path) -> int:
    """The number of cases in all sections of a datalist."""
    datalist = read_datalist(path)
    return sum(len(datalist.get(name, [])) for name in SECTIONS)


def read_datalist(path: str | Path) -> dict[str, Any]:
    """Parses a datalist and checks its form, not its files.

    Raises:
        ValueError: if it is absent or not JSON, or a case lacks its id or image or shares its id within a section.
    """
    try:
        datalist = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); expected a datalist: correct the path") from error
    if not isinstance(datalist, dict) or not any(name in datalist for name in SECTIONS):
        raise ValueError(f"{path}: holds none of {list(SECTIONS)}; expected at least one: see data_lists/drive.json")
    for name in SECTIONS:
        _require_cases(path, name, datalist.get(name, []))
    known = {name: [_without_null(case) for case in datalist[name]] for name in SECTIONS if name in datalist}
    return {**datalist, **known}


def require_folder(dataset_dir: str | Path, name: str = "dataset_dir") -> Path:
    """Returns the absolute path of an existing folder, or raises ValueError that calls it ``name``."""
    root = Path(dataset_dir).expanduser().absolute()
    if not root.is_dir():
        raise ValueError(f"{name} {root} is not a folder; expected the unpacked data set: correct {name}")
    return root


def absolute_paths(case: dict[str, Any], root: Path) -> dict[str, Any]:
    """Returns the case with its files as absolute paths; every other key is kept."""
    return {key: str(root / value) if key in FILE_KEYS else value for key, value in case.items()}


def _without_null(case: dict[str, Any]) -> dict[str, Any]:
    """A patient or sequence of null says as little as none; as a name it would be one that all such cases share."""
    return {key: value for key, value in case.items() if key not in ("patient", "sequence") or value is not None}


def _require_cases(path: str | Path, section: str, cases: Any) -> None:
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise ValueError(f"{path}: section '{section}' is no list; expected one of cases: see data_lists/drive.json")
    ids = set()
    for position, case in enumerate(cases):
        absent = [key for key in ("id", "image") if key not in case]
        if absent:
            raise ValueError(
                f"{path}: case {position} of '{section}' has keys {sorted(case)}; expected at least "
                f"'id' and 'image': add {absent}"
            )
        if case["id"] in ids:
            raise ValueError(f"{path}: id '{case['id']}' is twice in '{section}'; expected once: remove or rename one")
        ids.add(case["id"])
