"""Two splits of the same frames: by frame, which flatters and says so, and by video sequence."""

import json
import re
from pathlib import Path

import pytest

from hidiff_monai.data import check_dataset, load_datalist, use_fold
from hidiff_monai.data.prepare import DATASETS
from hidiff_monai.data.prepare.cvc_clinicdb import sequence_of

DATA_LISTS = Path(__file__).parents[3] / "data_lists"
RANDOM, BY_SEQUENCE = (DATA_LISTS / f"cvc_clinicdb{suffix}.json" for suffix in ("", "_sequences"))
SECTIONS = ("training", "validation", "test")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory, draw_picture, draw_mask):
    """The layout of the data set's PNG archive."""
    folder = tmp_path_factory.mktemp("CVC-ClinicDB")
    for frame in range(1, 613):
        draw_picture(folder / "PNG" / "Original" / f"{frame}.png")
        draw_mask(folder / "PNG" / "Ground Truth" / f"{frame}.png")
    return folder


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _ids(datalist, section):
    return [case["id"] for case in datalist[section]]


@pytest.mark.parametrize("path", [RANDOM, BY_SEQUENCE], ids=["frames", "sequences"])
def test_no_fold_tests_a_video_that_trained(path):
    datalist = _read(path)
    fold_of = {name: fold for fold, ids in datalist["folds"].items() for name in ids}
    cases = datalist["training"] + datalist["validation"]
    assert sorted(fold_of) == sorted(case["id"] for case in cases)
    for sequence in {sequence_of(int(case["id"])) for case in cases}:
        assert len({fold_of[case["id"]] for case in cases if sequence_of(int(case["id"])) == sequence}) == 1


def test_sequences_are_those_of_the_readme(data_root):
    text = (data_root / "cvc_clinicdb" / "README.txt").read_text(encoding="latin-1")
    rows = re.findall(r"\|\s+(\d+)\s+to\s+(\d+)\s+\|\s*(\d+)", text)
    assert len(rows) == 29
    for first, last, sequence in (map(int, row) for row in rows):
        assert sequence_of(first) == sequence_of(last) == sequence


def test_both_splits_hold_every_frame_once():
    every = [f"{frame:03d}" for frame in range(1, 613)]
    for path in (RANDOM, BY_SEQUENCE):
        assert sorted(name for section in SECTIONS for name in _ids(_read(path), section)) == every
    assert [len(_read(RANDOM)[section]) for section in SECTIONS] == [490, 61, 61]
    assert [len(_read(BY_SEQUENCE)[section]) for section in SECTIONS] == [494, 57, 61]


def test_no_sequence_crosses_sections_or_folds_of_the_split_by_sequence():
    datalist = _read(BY_SEQUENCE)
    for split in (datalist, *(use_fold(datalist, fold) for fold in range(5))):
        sequences = [{sequence_of(int(name)) for name in _ids(split, section)} for section in SECTIONS]
        assert not sequences[0] & sequences[1] | sequences[0] & sequences[2] | sequences[1] & sequences[2]
    assert {case["patient"] for case in datalist["training"] if case["id"] in ("001", "025")} == {"sequence 1"}


def test_the_random_split_says_that_it_flatters():
    datalist = _read(RANDOM)
    shared = {sequence_of(int(name)) for name in _ids(datalist, "training")}
    assert all(sequence_of(int(name)) in shared for name in _ids(datalist, "test"))
    assert "several sections" in datalist["note"] and "flatter" in datalist["note"]
    first = next(case for section in SECTIONS for case in datalist[section] if case["id"] == "026")
    assert first["sequence"] == "sequence 2"
    assert not any("patient" in case for section in SECTIONS for case in datalist[section])


@pytest.mark.parametrize(("dataset", "committed"), [("cvc_clinicdb", RANDOM), ("cvc_clinicdb_sequences", BY_SEQUENCE)])
def test_the_png_archive_gives_the_committed_split(made_up, tmp_path, dataset, committed):
    path = DATASETS[dataset](made_up, tmp_path)
    text = path.read_text(encoding="utf-8").replace("PNG/Original", "images").replace("PNG/Ground Truth", "masks")
    made, expected = json.loads(text), _read(committed)
    assert made.pop("note").endswith("No image has a look-alike in another section.")  # noise has none
    assert expected.pop("note")
    assert made == expected
    assert len(load_datalist(path, made_up, "test")) == 61


def test_real_look_alikes_are_in_the_notes(data_root, tmp_path):
    for dataset, committed in (("cvc_clinicdb", RANDOM), ("cvc_clinicdb_sequences", BY_SEQUENCE)):
        path = DATASETS[dataset](data_root / "cvc_clinicdb", tmp_path / dataset)
        assert path.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")
    assert "in two sections, 1 pair: 198 = 199." in _read(RANDOM)["note"]


def test_another_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no frames in .*'PNG/Original'.*correct source"):
        DATASETS["cvc_clinicdb"](tmp_path, tmp_path)


@pytest.mark.parametrize("committed", [RANDOM, BY_SEQUENCE])
def test_real_data_load_without_leakage(data_root, committed):
    source = data_root / "cvc_clinicdb"
    for section in SECTIONS:
        assert load_datalist(committed, source, section, check_leakage=section == "test")
    assert check_dataset(committed, source, ["test"], progress=False) == []
