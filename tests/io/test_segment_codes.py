"""Every class of the bundles has a code that pydicom's dictionary confirms."""

import json
from pathlib import Path

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from hidiff_monai.io.segment_codes import (
    ABNORMAL,
    ANATOMY,
    SEGMENT_CODES,
    TISSUE,
    SegmentCode,
    code_item,
    segment_code,
    segment_label,
)

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
KEYWORDS = {
    "aorta": "Aorta",
    "gallbladder": "Gallbladder",
    "left kidney": "Kidney",
    "right kidney": "Kidney",
    "liver": "Liver",
    "pancreas": "Pancreas",
    "spleen": "Spleen",
    "stomach": "Stomach",
    "right ventricle": "RightVentricle",
    "myocardium": "LeftVentricleMyocardium",
    "left ventricle": "LeftVentricle",
    "vessel": "BloodVessel",
    "polyp": "PolypOfColon",
    "necrotic core": "Necrosis",
    "oedema": "Edema",
}


def test_every_class_of_every_bundle_is_coded() -> None:
    files = sorted(BUNDLES.glob("*/configs/metadata.json"))
    assert len(files) >= 7
    for file in files:
        output = json.loads(file.read_text())["network_data_format"]["outputs"]["pred"]
        for name in set(output["channel_def"].values()) - {"background"}:
            assert segment_code(name) is SEGMENT_CODES[name]


@pytest.mark.parametrize("name", SEGMENT_CODES)
def test_codes_are_those_of_the_dictionary(name: str) -> None:
    code = segment_code(name)
    expected = getattr(codes.SCT, KEYWORDS[name]) if name in KEYWORDS else codes.NCIt.EnhancingLesion
    assert code.type == expected and code.type.meaning == expected.meaning
    assert code.category in (codes.SCT.AnatomicalStructure, codes.SCT.MorphologicallyAbnormalStructure)


def test_sides_categories_and_colours() -> None:
    assert segment_code("left kidney").modifier == codes.SCT.Left
    assert segment_code("right kidney").modifier == codes.SCT.Right
    assert segment_code("liver").category == ANATOMY == codes.SCT.AnatomicalStructure
    assert segment_code("oedema").category == ABNORMAL == codes.SCT.MorphologicallyAbnormalStructure
    assert codes.SCT.Tissue == TISSUE
    colours = [code.rgb for code in SEGMENT_CODES.values()]
    assert len(set(colours)) == len(colours)
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_case_and_underscores_do_not_matter() -> None:
    assert segment_code(" Left_Kidney") is segment_code("left kidney")


def test_unknown_names_get_a_private_code_that_stays() -> None:
    code = segment_code("Zirbeldrüse, links")
    assert code == SegmentCode(TISSUE, Code("ZIRBELD-3BA16D3C", "99HIDIFF", "Zirbeldrüse, links"), code.rgb)
    assert code == segment_code("Zirbeldrüse, links")
    others = [segment_code(name).type for name in ("zirbeldrüse, links", "Zirbeldrüse, rechts", "", "松果体")]
    assert len({other.value for other in others} | {code.type.value}) == 5
    assert all(len(other.value) <= 16 and other.meaning for other in others)


def test_labels_are_what_dicom_can_hold() -> None:
    assert segment_label("a\\b\nc  d") == "a b c d"
    assert len(segment_label("x" * 99)) == 64
    item = code_item(segment_code("liver").type)
    assert (item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning) == ("10200004", "SCT", "Liver")
