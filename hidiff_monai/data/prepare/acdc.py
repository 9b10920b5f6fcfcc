"""ACDC: cine MR of the heart at end diastole and end systole, right ventricle, myocardium and left ventricle."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hidiff_monai.io.files import list_nifti, nifti_stem

from ..validate import Problem
from .cases import RawCase, VolumeSet
from .volumes import find_nifti, prepare_volumes

ACDC = VolumeSet(
    name="ACDC",
    description="Short-axis cine MR of the heart, two frames a patient (end diastole and end systole). Validation and "
    "test hold the 10 and 20 patients that are usual for the 100 labelled ones; all other patients train.",
    reference="O. Bernard, A. Lalande, C. Zotti, F. Cervenansky et al.: Deep learning techniques for automatic MRI "
    "cardiac multi-structures segmentation and diagnosis: is the problem solved? IEEE Transactions on Medical Imaging "
    "37(11), 2514-2525, 2018",
    licence="CC BY-NC-SA 4.0 as far as known: check the source before you redistribute anything",
    label_values={0: 0, 1: 1, 2: 2, 3: 3},
    label_names=["right ventricle", "myocardium", "left ventricle"],
    acquired=True,
)
FRAME = re.compile(r"(patient\d{3})_frame\d{2}")
SECTION_OF_KEY = {"train": "training", "val": "validation", "test": "test"}
VALIDATION = (2, 19, 28, 30, 39, 45, 78, 82, 85, 87)
TEST = (1, 7, 8, 11, 13, 22, 24, 33, 52, 59, 64, 65, 66, 68, 75, 80, 81, 83, 84, 93)


def prepare(source: Path, output: Path) -> Path:
    """Prepares `volumes/` with its `split.json`, or the official download with its folder `training/`.

    `split.json` (section to ids) decides where there is one; else the patients in `VALIDATION` and `TEST` are held out.

    Args:
        source: the folder that holds `volumes/` or `training/`.
        output: the folder to write to.

    Returns:
        The datalist.

    Raises:
        ValueError: if the source has another layout, or any file is broken.
    """
    files = [*list_nifti(source / "volumes"), *list_nifti(source / "training", "patient*/*")]
    found = {(file.parent, nifti_stem(file).removesuffix("_gt")) for file in files}
    frames = sorted((folder, name) for folder, name in found if FRAME.fullmatch(name))
    if not frames:
        raise ValueError(
            f"{source}: no patientNNN_frameMM.nii.gz in volumes/ or training/patientNNN/; "
            f"expected ACDC as it is downloaded: correct source"
        )
    frames += _missing_frames(source / "training", set(frames))
    sections, problems = _read_split(source / "split.json", {name for _, name in frames})
    cases = [
        RawCase(name, name[:10], sections[name], (find_nifti(folder, name),), find_nifti(folder, f"{name}_gt"))
        for folder, name in sorted(frames)
        if name in sections
    ]
    return prepare_volumes(ACDC, cases, output, problems)


def _missing_frames(training: Path, present: set[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """The frames that an Info.cfg names (its ED and ES) and of which no file is there."""
    named = set()
    for info in training.glob("patient*/Info.cfg"):
        for number in re.findall(r"^E[DS]\s*:\s*(\d+)", info.read_text(encoding="utf-8"), flags=re.MULTILINE):
            named.add((info.parent, f"{info.parent.name}_frame{int(number):02d}"))
    return sorted(named - present)


def _read_split(file: Path, names: set[str]) -> tuple[dict[str, str], list[Problem]]:
    """Section of each frame, and what is wrong with the split: a frame in two sections, or in none, or not there."""
    if not file.is_file():
        return {name: _usual_section(int(name[7:10])) for name in names}, []
    split = json.loads(file.read_text(encoding="utf-8"))
    listed = [(name, section) for key, section in SECTION_OF_KEY.items() for name in split.get(key, [])]
    sections: dict[str, str] = {}
    problems = []
    for name, section in listed:
        if sections.setdefault(name, section) != section:
            found = f"{name} is in '{sections[name]}' and in '{section}'"
            problems.append(Problem(name, "image", str(file), found, "one section", "remove it from one of them"))
    for name in sorted(sections.keys() ^ names):
        found = f"{name} is " + ("not on disk" if name in sections else "in no section")
        mend = "download it again, or correct split.json"
        problems.append(Problem(name, "image", str(file), found, "files and split to name the same frames", mend))
    return sections, problems


def _usual_section(patient: int) -> str:
    if patient in TEST:
        return "test"
    return "validation" if patient in VALIDATION else "training"
