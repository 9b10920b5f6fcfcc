"""What volumetric data sets share: every raw case becomes slices, every problem is named, then comes the datalist."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hidiff_monai.io import require_writable, write_atomically

from ..leakage import SECTIONS
from ..validate import Problem
from .cases import RawCase, Reader, VolumeSet, current_geometry, problem_of, read_nifti, write_case
from .problems import require_none, require_own_folder
from .splits import deal_folds


def prepare_volumes(
    volume_set: VolumeSet,
    cases: list[RawCase],
    output: Path,
    problems: Iterable[Problem] = (),
    read: Reader = read_nifti,
) -> Path:
    """Writes `output/cases/` and, if there is nothing wrong with any case, `output/datalist.json`.

    A case that was prepared before from the very same files is kept, so an interrupted run goes on where it stopped.

    Args:
        volume_set: what the cases have in common.
        cases: where they lie in the download, with their sections.
        output: the folder to write to.
        problems: what was found wrong while the cases were looked for.
        read: reads one case.

    Returns:
        The datalist.

    Raises:
        ValueError: that lists every problem of every file; the datalist is then left as it was.
    """
    datalist = output / "datalist.json"
    require_own_folder(datalist, volume_set.name)
    folder = require_writable(output / "cases")
    all_problems = [*problems, *_find_shared(cases)]
    geometries: dict[str, dict[str, Any]] = {}
    for case in tqdm(cases, desc=f"Preparing {volume_set.name}", unit="case"):
        geometry = current_geometry(case, volume_set, folder)
        if geometry is None:
            volume = read(case, volume_set)
            if isinstance(volume, list):
                all_problems += volume
                continue
            geometry = write_case(case, volume, volume_set, folder)
        geometries[case.id] = geometry
    all_problems += _find_duplicates([case for case in cases if case.id in geometries], geometries)
    require_none(all_problems, output)
    with write_atomically(datalist) as temporary:
        content = describe_set(volume_set, cases, geometries)
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return datalist


def describe_set(volume_set: VolumeSet, cases: list[RawCase], geometries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The datalist of prepared cases, which are sorted by id within each section."""
    sections = {name: sorted((case for case in cases if case.section == name), key=_id) for name in SECTIONS}
    labelled = {"labelled_names": volume_set.labelled_names} if volume_set.labelled_names else {}
    return {
        **{key: getattr(volume_set, key) for key in ("name", "description", "reference", "licence", "channels")},
        "label_values": {str(number): number for number in range(len(volume_set.label_names) + 1)},
        "label_names": volume_set.label_names,
        **labelled,
        "exclusive": True,
        "source_label_values": {str(value): number for value, number in volume_set.label_values.items()},
        **({"acquired": True} if volume_set.acquired else {}),
        **{name: [_describe(case, geometries[case.id]) for case in chosen] for name, chosen in sections.items()},
        "folds": deal_folds({case.id: case.patient for name in SECTIONS[:2] for case in sections[name]}),
    }


def find_nifti(folder: Path, stem: str) -> Path:
    """`stem.nii.gz`, or `stem.nii` where only that exists; whether either exists is seen when the case is read."""
    plain = folder / f"{stem}.nii"
    return plain if plain.is_file() else folder / f"{stem}.nii.gz"


def _describe(case: RawCase, geometry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": case.id,
        "patient": case.patient,
        "image": f"cases/{case.id}_image.npy",
        "label": f"cases/{case.id}_label.npy",
        "slices": geometry["slices"][1] - geometry["slices"][0],
        "spacing": geometry["spacing"],
    }


def _find_shared(cases: list[RawCase]) -> list[Problem]:
    """Cases that are there twice, and patients of whom cases are in two sections."""
    problems = []
    for name, group in groupby(sorted(cases, key=_id), key=_id):
        first, *others = group
        for case in others:
            split = {first.section, case.section}
            found = f"case {name} is also {first.images[0]}" + (f", in {sorted(split)}" if len(split) == 2 else "")
            problems.append(problem_of(case, "image", case.images[0], found, "a case once", "remove one of the two"))
    for name, group in groupby(sorted(cases, key=_patient), key=_patient):
        first, *others = group
        for case in others:
            if case.section != first.section and case.id != first.id:
                found = f"patient {name} in '{case.section}', and in '{first.section}' with {first.id}"
                mend = "correct the split that came with the data, or move one of the files"
                problems.append(problem_of(case, "image", case.images[0], found, "a patient in one section", mend))
    return problems


def _find_duplicates(cases: list[RawCase], geometries: dict[str, dict[str, Any]]) -> list[Problem]:
    """Images with the very same voxels under two names."""
    seen: dict[str, RawCase] = {}
    problems = []
    for case in cases:
        first = seen.setdefault(geometries[case.id]["sha256"]["image"], case)
        if first.id != case.id:
            found = f"the same voxels as {first.images[0]} ({first.section}, this one {case.section})"
            problems.append(problem_of(case, "image", case.images[0], found, "every case once", "remove the copy"))
    return problems


def _id(case: RawCase) -> str:
    return case.id


def _patient(case: RawCase) -> str:
    return case.patient
