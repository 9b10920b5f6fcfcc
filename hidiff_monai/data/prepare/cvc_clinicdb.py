"""CVC-ClinicDB: 612 frames of 29 colonoscopy videos, each with a polyp.

Frames of one video are much alike. The usual random split has frames of nearly every video on both sides, so its
figures flatter; the split by sequence has each video on one side only. Both are here: report both, by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .images import Case, write_image_datalist
from .splits import draw_split

HEAD: dict[str, Any] = {
    "name": "CVC-ClinicDB",
    "description": "Polyps in 612 frames of 29 colonoscopy video sequences, 384 wide and 288 high. 80 % of the frames "
    "train, 10 % validate and 10 % test, drawn at random with seed 0.",
    "note": "Frames of one video sequence are in several sections (so there is no 'patient' that the leakage check "
    "could compare): figures on this split flatter. Report them beside those of cvc_clinicdb_sequences.json. Intervals "
    "and tests take each 'sequence' as one.",
    "reference": "J. Bernal, F. J. Sánchez, G. Fernández-Esparrach, D. Gil, C. Rodríguez, F. Vilariño: WM-DOVA maps "
    "for accurate polyp highlighting in colonoscopy: validation vs. saliency maps from physicians. Computerized "
    "Medical Imaging and Graphics 43, 99-111, 2015",
    "licence": "Research and education only: see the README.txt of the data",
    "channels": 3,
    "label_values": {"0": 0, "255": 1},
    "label_names": ["polyp"],
}
SEQUENCE_HEAD: dict[str, Any] = {
    **HEAD,
    "name": "CVC-ClinicDB by sequence",
    "description": "Polyps in 612 frames of 29 colonoscopy video sequences, 384 wide and 288 high. 'patient' is the "
    "sequence; no sequence crosses sections. About 80 % of the frames train, 10 % validate and 10 % test; whole "
    "sequences are drawn at random with seed 0.",
    "note": "The 29 sequences come from 25 video studies, and the data does not say which: two sequences of one "
    "patient can still be in two sections.",
}
LAST_FRAMES = (
    *(25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317),
    *(342, 363, 383, 408, 428, 447, 466, 478, 503, 528, 546, 571, 591, 612),
)
NUM_HELD_OUT = 61
SEED = 0
LAYOUTS = (
    ("images", "masks", ".png"),
    ("PNG/Original", "PNG/Ground Truth", ".png"),
    ("Original", "Ground Truth", ".png"),
    ("Original", "Ground Truth", ".tif"),
    ("TIF/Original", "TIF/Ground Truth", ".tif"),
)


def prepare(source: Path, output: Path) -> Path:
    """Lists the 612 frames, split at random: the usual way, which flatters.

    Args:
        source: the folder with Original and `Ground Truth` (PNG or TIFF, or inside folders named so), or with images
            and masks; the files are called N.png or N.tif.
        output: the folder of the datalist.

    Returns:
        The datalist; its paths are relative to the source.

    Raises:
        ValueError: if the source has another layout; or that lists every file that is missing or broken.
    """
    cases = [{**case, "sequence": _name_of(case)} for case in _list_cases(source)]
    section_of = draw_split({case["id"]: case["id"] for case in cases}, NUM_HELD_OUT, SEED)
    return write_image_datalist(HEAD, _by_section(cases, section_of), source, output)


def prepare_by_sequence(source: Path, output: Path) -> Path:
    """Lists the 612 frames, split by video sequence; arguments, result and errors as `prepare`."""
    cases = [{**case, "patient": _name_of(case)} for case in _list_cases(source)]
    section_of = draw_split({case["id"]: case["patient"] for case in cases}, NUM_HELD_OUT, SEED)
    return write_image_datalist(SEQUENCE_HEAD, _by_section(cases, section_of), source, output)


def sequence_of(frame: int) -> int:
    """The video sequence, 1 to 29, of frame 1 to 612, as the README.txt of the data lists them."""
    return next(number for number, last in enumerate(LAST_FRAMES, 1) if frame <= last)


def _name_of(case: Case) -> str:
    return f"sequence {sequence_of(int(case['id']))}"


def _list_cases(source: Path) -> list[Case]:
    for images, labels, suffix in LAYOUTS:
        if any((source / images).glob(f"*{suffix}")):
            return [_case(frame, images, labels, suffix) for frame in range(1, LAST_FRAMES[-1] + 1)]
    raise ValueError(
        f"{source}: no frames in {[images for images, _, _ in LAYOUTS]}; expected CVC-ClinicDB as downloaded: "
        f"correct source"
    )


def _case(frame: int, images: str, labels: str, suffix: str) -> Case:
    return {"id": f"{frame:03d}", "image": f"{images}/{frame}{suffix}", "label": f"{labels}/{frame}{suffix}"}


def _by_section(cases: list[Case], section_of: dict[str, str]) -> dict[str, list[Case]]:
    names = ("training", "validation", "test")
    return {name: [case for case in cases if section_of[case["id"]] == name] for name in names}
