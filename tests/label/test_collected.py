"""What is known of the segments of a label."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

pytest.importorskip("monailabel", reason="MONAI Label has its own environment: make test-label")

from hidiff_monai.label.collected import segments_of  # noqa: E402

SPEC = importlib.util.spec_from_file_location("series", Path(__file__).parents[1] / "io" / "series.py")
assert SPEC is not None and SPEC.loader is not None
series = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(series)

SAID = [{"name": "liver", "idx": 2}, {"name": "spleen", "idx": 1}]


def test_segments_are_those_the_viewer_sent(tmp_path: Path) -> None:
    assert segments_of({"label_info": SAID}, tmp_path) == SAID
    assert segments_of({"params": {"label_info": SAID}}, tmp_path) == SAID
    assert segments_of({"SeriesInstanceUID": "1.2.3"}, tmp_path) == []


def test_segments_of_a_dicom_server_are_those_of_its_file(tmp_path: Path) -> None:
    data = series.header()
    data.SegmentSequence = [Dataset(), Dataset()]
    for item, said in zip(data.SegmentSequence, SAID, strict=True):
        item.SegmentLabel, item.SegmentNumber = said["name"], said["idx"]
    series.save(data, tmp_path / "1.2.3" / "a.dcm")
    assert segments_of({"SeriesInstanceUID": "1.2.3"}, tmp_path) == SAID
