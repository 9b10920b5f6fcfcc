"""What a class is called where names must be codes: SNOMED CT concepts and colours for DICOM segments.

The codes are those of DICOM's context groups 7150 (categories) and 7151, 7159 (types), as pydicom's dictionary has
them; a name that is not in the table gets a code of the private scheme 99HIDIFF, never a guessed SNOMED number.
"""

from __future__ import annotations

import colorsys
import hashlib
import re
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99HIDIFF"
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
KIDNEY = Code("64033007", "SCT", "Kidney")


@dataclass(frozen=True)
class SegmentCode:
    """One class in codes.

    Attributes:
        category: what sort of thing it is, from context group 7150.
        type: what it is.
        rgb: recommended display colour, 0 to 255 each.
        modifier: the side, where the type has two.
    """

    category: Code
    type: Code
    rgb: tuple[int, int, int]
    modifier: Code | None = None


SEGMENT_CODES = {
    "aorta": SegmentCode(ANATOMY, Code("15825003", "SCT", "Aorta"), (224, 97, 76)),
    "gallbladder": SegmentCode(ANATOMY, Code("28231008", "SCT", "Gallbladder"), (139, 150, 98)),
    "left kidney": SegmentCode(ANATOMY, KIDNEY, (70, 130, 200), Code("7771000", "SCT", "Left")),
    "right kidney": SegmentCode(ANATOMY, KIDNEY, (120, 190, 240), Code("24028007", "SCT", "Right")),
    "liver": SegmentCode(ANATOMY, Code("10200004", "SCT", "Liver"), (221, 130, 101)),
    "pancreas": SegmentCode(ANATOMY, Code("15776009", "SCT", "Pancreas"), (249, 180, 111)),
    "spleen": SegmentCode(ANATOMY, Code("78961009", "SCT", "Spleen"), (157, 108, 162)),
    "stomach": SegmentCode(ANATOMY, Code("69695003", "SCT", "Stomach"), (120, 200, 130)),
    "right ventricle": SegmentCode(ANATOMY, Code("53085002", "SCT", "Right ventricle"), (90, 140, 220)),
    "myocardium": SegmentCode(ANATOMY, Code("49848007", "SCT", "Left Ventricle Myocardium"), (192, 104, 88)),
    "left ventricle": SegmentCode(ANATOMY, Code("87878005", "SCT", "Left ventricle"), (240, 200, 90)),
    "vessel": SegmentCode(ANATOMY, Code("59820001", "SCT", "Blood Vessel"), (216, 40, 50)),
    "polyp": SegmentCode(ABNORMAL, Code("68496003", "SCT", "Polyp of colon"), (80, 200, 120)),
    "necrotic core": SegmentCode(ABNORMAL, Code("6574001", "SCT", "Necrosis"), (216, 191, 60)),
    "oedema": SegmentCode(ABNORMAL, Code("79654002", "SCT", "Edema"), (140, 224, 228)),
    "enhancing tumour": SegmentCode(ABNORMAL, Code("C113842", "NCIt", "Enhancing Lesion"), (220, 60, 60)),
}


def segment_code(name: str) -> SegmentCode:
    """The coded concept of a class.

    Args:
        name: the class's name, as in ``channel_def`` of a bundle's metadata; case and underscores do not matter.

    Returns:
        Its code; for an unknown name a private one, the same whenever the name is the same.
    """
    known = " ".join(name.lower().replace("_", " ").split())
    return SEGMENT_CODES.get(known) or _private_code(name)


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def segment_label(name: str) -> str:
    """A class's name as DICOM takes it: one line of at most 64 characters, without a backslash."""
    return " ".join(re.sub(r"[\\\x00-\x1f\x7f]", " ", name).split())[:64] or "segment"


def _private_code(name: str) -> SegmentCode:
    digest = hashlib.sha256(name.encode()).hexdigest()
    slug = re.sub(r"[^A-Z0-9]", "", name.upper())[:7]
    red, green, blue = colorsys.hsv_to_rgb(int(digest[:4], 16) / 0xFFFF, 0.6, 0.9)
    colour = (round(255 * red), round(255 * green), round(255 * blue))
    return SegmentCode(TISSUE, Code(f"{slug}-{digest[:8].upper()}", PRIVATE_SCHEME, segment_label(name)), colour)
