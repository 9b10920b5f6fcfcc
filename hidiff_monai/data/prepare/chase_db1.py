"""CHASE_DB1: retinal vessels of both eyes of 14 children.

No field-of-view mask comes with the images: there is no "region", every figure is of the whole image. The black frame
around the retina is background that is easily right, so accuracy is higher than inside a field of view, as it is
reported for DRIVE. Dice, IoU and recall hardly change: they count no true background, only false alarms on the frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .images import Case, write_image_datalist

HEAD: dict[str, Any] = {
    "name": "CHASE_DB1",
    "description": "Retinal vessels in colour fundus photographs of both eyes of 14 children, 999 wide and 960 high. "
    "The last 8 images (children 11 to 14) test; of the first 20, children 9 and 10 validate and the others train. "
    "'label' is the first observer, 'second_label' the second, 'patient' the child. No field of view comes with the "
    "images: figures are of the whole image.",
    "reference": "M. M. Fraz, P. Remagnino, A. Hoppe, B. Uyyanonvara, A. R. Rudnicka, C. G. Owen, S. A. Barman: An "
    "ensemble classification-based approach applied to retinal blood vessel segmentation. IEEE Transactions on "
    "Biomedical Engineering 59(9), 2538-2548, 2012",
    "licence": "CC BY 4.0 as far as known: check the source before you redistribute anything",
    "channels": 3,
    "label_values": {"0": 0, "255": 1},
    "label_names": ["vessel"],
}
CHILDREN = {"training": range(1, 9), "validation": range(9, 11), "test": range(11, 15)}


def prepare(source: Path, output: Path) -> Path:
    """Lists the 28 images of the flat folder that CHASE_DB1 comes as; Image_01L.jpg is the left eye of child 01.

    Args:
        source: the folder with Image_01L.jpg, Image_01L_1stHO.png and Image_01L_2ndHO.png.
        output: the folder of the datalist.

    Returns:
        The datalist; its paths are relative to the source.

    Raises:
        ValueError: that lists every file that is missing or broken.
    """
    sections = {
        name: [_case(f"{child:02d}", eye, name) for child in children for eye in "LR"]
        for name, children in CHILDREN.items()
    }
    return write_image_datalist(HEAD, sections, source, output)


def _case(child: str, eye: str, section: str) -> Case:
    stem = f"Image_{child}{eye}"
    second = {"second_label": f"{stem}_2ndHO.png"} if section == "test" else {}
    return {
        "id": f"{child}{eye}",
        "patient": child,
        "image": f"{stem}.jpg",
        "label": f"{stem}_1stHO.png",
        **second,
    }
