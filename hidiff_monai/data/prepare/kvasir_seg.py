"""Kvasir-SEG: polyps in 1000 colonoscopy images, as downloaded or already split into three folders.

Masks are JPEG, so their grey values are blurred: above 127 is polyp. The images come without patients, but some show
the same sight a second or so apart: these are kept together where the split is drawn here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .images import Case, paired_stems, write_image_datalist
from .similar import find_similar
from .splits import draw_split

HEAD: dict[str, Any] = {
    "name": "Kvasir-SEG",
    "description": "Polyps in 1000 colonoscopy images: 800 train, 100 validate and 100 test.",
    "reference": "D. Jha, P. H. Smedsrud, M. A. Riegler, P. Halvorsen, T. de Lange, D. Johansen, H. D. Johansen: "
    "Kvasir-SEG: a segmented polyp dataset. MultiMedia Modeling (MMM), LNCS 11962, 451-462, 2020",
    "licence": "Research and education only: see the data's site",
    "channels": 3,
    "label_threshold": 127,
    "label_names": ["polyp"],
}
DRAWN = "Drawn at random with seed 0; look-alikes have the same 'patient' and stay together."
GIVEN = "The split is the folders'. Patients are not known."
SECTION_OF_FOLDER = {"train": "training", "validation": "validation", "test": "test"}
NUM_IMAGES = {"training": 800, "validation": 100, "test": 100}
SEED = 0


def prepare(source: Path, output: Path) -> Path:
    """Lists 1000 images, in the split of their folders or in one that is drawn.

    Args:
        source: the folder with images and masks, as downloaded; or with train, validation and test, each with both.
        output: the folder of the datalist.

    Returns:
        The datalist; its paths are relative to the source.

    Raises:
        ValueError: if the source has another layout or another number of images; or that lists every file that is
            missing or broken.
    """
    if (source / "train").is_dir():
        sections = {
            section: _list_cases(source, f"{folder}/", f"{folder}_") for folder, section in SECTION_OF_FOLDER.items()
        }
        _require_number({section: len(cases) for section, cases in sections.items()}, NUM_IMAGES, source)
        return write_image_datalist({**HEAD, "note": GIVEN}, sections, source, output)
    cases = _list_cases(source, "", "")
    _require_number({"all": len(cases)}, {"all": sum(NUM_IMAGES.values())}, source)
    return write_image_datalist({**HEAD, "note": DRAWN}, _draw_sections(cases, source), source, output)


def _list_cases(source: Path, folder: str, prefix: str) -> list[Case]:
    stems = paired_stems(source / f"{folder}images", source / f"{folder}masks", ".jpg")
    return [
        {"id": f"{prefix}{stem}", "image": f"{folder}images/{stem}.jpg", "label": f"{folder}masks/{stem}.jpg"}
        for stem in stems
    ]


def _require_number(found: dict[str, int], expected: dict[str, int], source: Path) -> None:
    if found != expected:
        raise ValueError(
            f"{source}: {found} images; expected {expected} in images/, or in train/, validation/ and test/images/: "
            f"correct source, or download it again"
        )


def _draw_sections(cases: list[Case], source: Path) -> dict[str, list[Case]]:
    look_alikes = _group_similar(cases, source)
    units = {case["id"]: look_alikes.get(case["id"], case["id"]) for case in cases}
    section_of = draw_split(units, NUM_IMAGES["test"], SEED)
    known = [{**case, "patient": units[case["id"]]} if case["id"] in look_alikes else case for case in cases]
    return {name: [case for case in known if section_of[case["id"]] == name] for name in NUM_IMAGES}


def _group_similar(cases: list[Case], source: Path) -> dict[str, str]:
    """The name of its group for each image that has a look-alike: the id of the group's first."""
    group_of: dict[str, str] = {}
    for i, j in find_similar([source / case["image"] for case in cases]):
        first, second = (group_of.get(cases[k]["id"], cases[k]["id"]) for k in (i, j))
        members = {cases[i]["id"], cases[j]["id"]} | {other for other, name in group_of.items() if name == second}
        group_of |= dict.fromkeys(members, first)
    return group_of
