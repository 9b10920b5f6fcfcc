"""DRIVE: retinal vessels of 40 adults, with the field of view of each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .images import Case, write_image_datalist

HEAD: dict[str, Any] = {
    "name": "DRIVE",
    "description": "Retinal vessels in 40 colour fundus photographs, 565 wide and 584 high. The test section is "
    "DRIVE's own test set; validation holds cases 22, 27, 32 and 37 out of DRIVE's 20 training cases. 'label' is the "
    "first observer, 'second_label' the second, 'region' the field of view.",
    "reference": "J. Staal, M. D. Abramoff, M. Niemeijer, M. A. Viergever, B. van Ginneken: Ridge-based vessel "
    "segmentation in color images of the retina. IEEE Transactions on Medical Imaging 23(4), 501-509, 2004",
    "licence": "CC BY 4.0 as far as known: check the source before you redistribute anything",
    "channels": 3,
    "label_values": {"0": 0, "255": 1},
    "label_names": ["vessel"],
}
VALIDATION = (22, 27, 32, 37)


def prepare(source: Path, output: Path) -> Path:
    """Lists the two folders that DRIVE comes as, `training` and `test`.

    Args:
        source: the folder that holds both, each with images, mask and 1st_manual, and test/2nd_manual.
        output: the folder of the datalist.

    Returns:
        The datalist; its paths are relative to the source.

    Raises:
        ValueError: that lists every file that is missing or broken.
    """
    sections = {
        "training": [_case(number, "training") for number in range(21, 41) if number not in VALIDATION],
        "validation": [_case(number, "training") for number in VALIDATION],
        "test": [_case(number, "test") for number in range(1, 21)],
    }
    return write_image_datalist(HEAD, sections, source, output)


def _case(number: int, folder: str) -> Case:
    name = f"{number:02d}"
    second = {"second_label": f"test/2nd_manual/{name}_manual2.gif"} if folder == "test" else {}
    return {
        "id": name,
        "patient": name,
        "image": f"{folder}/images/{name}_{folder}.tif",
        "label": f"{folder}/1st_manual/{name}_manual1.gif",
        "region": f"{folder}/mask/{name}_{folder}_mask.gif",
        **second,
    }
