"""The published DRIVE split, and what a datalist may not be."""

import json
import re
import shutil
from pathlib import Path

import pytest

from hidiff_monai.data import check_leakage, load_datalist, use_fold, write_phantoms

DRIVE_JSON = Path(__file__).parents[2] / "data_lists" / "drive.json"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 3, 1, 2, size=(64, 72), progress=False)


def _ids(section):
    return [case["id"] for case in json.loads(DRIVE_JSON.read_text())[section]]


def _edited(phantoms, tmp_path, edit):
    datalist = json.loads(phantoms.read_text())
    edit(datalist)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(datalist))
    return path


def test_drive_ids_are_the_published_split():
    assert _ids("test") == [f"{number:02d}" for number in range(1, 21)]
    assert _ids("validation") == ["22", "27", "32", "37"]
    assert sorted(_ids("training") + _ids("validation")) == [str(number) for number in range(21, 41)]


def test_drive_leaks_nothing(drive_dir):
    check_leakage(json.loads(DRIVE_JSON.read_text()), drive_dir)


def test_drive_names_every_file_of_the_data_set(drive_dir):
    cases = [case for name in ("training", "validation", "test") for case in load_datalist(DRIVE_JSON, drive_dir, name)]
    keys = ("image", "label", "region", "second_label")
    named = {case[key] for case in cases for key in keys if key in case}
    assert named == {str(file) for file in drive_dir.absolute().rglob("*") if file.suffix in (".tif", ".gif")}


def test_load_gives_absolute_paths_and_keeps_the_rest(phantoms):
    cases = load_datalist(phantoms, phantoms.parent, "training")
    assert [case["id"] for case in cases] == ["03", "04", "05"]
    assert cases[0]["patient"] == "03"
    assert cases[0]["image"] == str(phantoms.parent / "training/images/03_training.tif")
    assert Path(cases[0]["label"]).is_absolute()


def test_several_sections_come_one_after_the_other(phantoms):
    parts = [load_datalist(phantoms, phantoms.parent, name) for name in ("training", "validation")]
    assert load_datalist(phantoms, phantoms.parent, ["training", "validation"]) == parts[0] + parts[1]
    with pytest.raises(ValueError, match="no cases in section 'train'"):
        load_datalist(phantoms, phantoms.parent, ["training", "train"])
    with pytest.raises(ValueError, match="no cases in section ''"):
        load_datalist(phantoms, phantoms.parent, [])


def test_unknown_and_empty_sections_name_the_present_ones(phantoms, tmp_path):
    path = _edited(phantoms, tmp_path, lambda datalist: datalist.update(validation=[]))
    for section in ("train", "validation"):
        with pytest.raises(ValueError, match=rf"'{section}'; expected one of \['training', 'test'\]"):
            load_datalist(path, phantoms.parent, section)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"training": {"id": "1"}}'])
def test_malformed_json_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="broken.json"):
        load_datalist(path, tmp_path, "training")


def test_missing_datalist_folder_and_file_are_named(phantoms, tmp_path):
    with pytest.raises(ValueError, match="absent.json"):
        load_datalist(tmp_path / "absent.json", tmp_path, "training")
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        load_datalist(phantoms, tmp_path / "nowhere", "training")
    with pytest.raises(ValueError, match=r"03_training.tif is missing \(and 8 other files.*dataset_dir"):
        load_datalist(phantoms, tmp_path, "training")


def test_cases_without_image_or_with_the_same_id_are_refused(phantoms, tmp_path):
    path = _edited(phantoms, tmp_path, lambda datalist: datalist["test"][1].pop("image"))
    with pytest.raises(ValueError, match=r"case 1 of 'test'.*add \['image'\]"):
        load_datalist(path, phantoms.parent, "test")
    path = _edited(phantoms, tmp_path, lambda datalist: datalist["test"].append(datalist["test"][0]))
    with pytest.raises(ValueError, match="id '01' is twice in 'test'"):
        load_datalist(path, phantoms.parent, "test")


@pytest.mark.parametrize("key", ["id", "patient"])
def test_leakage_by_id_and_by_patient(phantoms, tmp_path, key):
    path = _edited(phantoms, tmp_path, lambda datalist: datalist["test"][0].update({key: "03"}))
    with pytest.raises(ValueError, match=rf"'training' and 'test' share 1 {key}\(s\) \(cases 03 = "):
        load_datalist(path, phantoms.parent, "test")
    assert len(load_datalist(path, phantoms.parent, "test", check_leakage=False)) == 2


def test_cases_of_unknown_patients_share_none(phantoms, tmp_path):
    def forget(datalist):
        for section in ("training", "validation", "test"):
            datalist[section][0]["patient"] = None

    path = _edited(phantoms, tmp_path, forget)
    assert "patient" not in load_datalist(path, phantoms.parent, "test")[0]


def test_leakage_by_content_of_a_renamed_copy(phantoms, tmp_path):
    shutil.copytree(phantoms.parent, tmp_path / "set")
    copy = tmp_path / "set" / "test/images/02_test.tif"
    shutil.copyfile(tmp_path / "set" / "training/images/06_training.tif", copy)
    datalist = json.loads(phantoms.read_text())
    check_leakage(datalist)
    message = "sections 'validation' and 'test' share 1 image content(s) (cases 06 = 02)"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_leakage(datalist, tmp_path / "set")


def _folded():
    cases = [{"id": f"{patient}{k}", "patient": patient, "image": "x.png"} for patient in "abcde" for k in (1, 2)]
    return {"training": cases[:4], "validation": cases[4:8], "test": cases[8:], "folds": {"0": ["a1", "a2"]}}


def test_over_all_folds_each_case_is_tested_once_and_the_next_fold_validates():
    datalist = _folded()
    datalist["folds"] = {str(fold): [f"{patient}1", f"{patient}2"] for fold, patient in enumerate("abcd")}
    splits = [use_fold(datalist, fold) for fold in range(4)]
    ids = [
        {name: [case["id"] for case in split[name]] for name in ("training", "validation", "test")} for split in splits
    ]
    assert [split["test"] for split in ids] == [["a1", "a2"], ["b1", "b2"], ["c1", "c2"], ["d1", "d2"]]
    assert [split["validation"] for split in ids] == [["b1", "b2"], ["c1", "c2"], ["d1", "d2"], ["a1", "a2"]]
    assert ids[0]["training"] == ["c1", "c2", "d1", "d2"]
    assert datalist["training"][0]["id"] == "a1"  # as it was


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"0": ["a1"], "1": ["b1"]}, "at least three"),
        ({"x": ["a1"], "1": ["b1"], "2": ["c1"]}, "fold 0 of folds"),
        ({"0": ["a1"], "1": ["b1"], "2": ["z1"]}, r"\['z1'\], which no section holds"),
        ({"0": ["a1"], "1": ["a2"], "2": ["c1"]}, r"patients \['a'\] are in several folds"),
    ],
)
def test_folds_that_cannot_be_used_are_named(folds, message):
    with pytest.raises(ValueError, match=message):
        use_fold({**_folded(), "folds": folds}, 0)


def test_drive_loads_by_fold(drive_dir):
    tested = [case["id"] for fold in range(5) for case in load_datalist(DRIVE_JSON, drive_dir, "test", False, fold)]
    assert sorted(tested) == [str(number) for number in range(21, 41)]
