"""Folders of one's own: patterns, patients, label values, and every file that is wrong by name."""

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from hidiff_monai.cli import main
from hidiff_monai.data import check_dataset, check_leakage, load_volumes
from hidiff_monai.data.inspection import inspect_dataset as findings_of
from hidiff_monai.data.prepare.folder import Classes, Layout, Split, draw_sections, find_label_values, prepare_folder

SECTIONS = ("training", "validation", "test")
VOLUMES = Layout(("imagesTr/{id}.nii.gz",), "labelsTr/{id}.nii.gz")
PICTURES = Layout(("{id}.png",), "{id}_mask.png")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def ids(content: dict) -> set[str]:
    return {case["id"] for section in SECTIONS for case in content[section]}


@pytest.fixture
def volumes(tmp_path, write_nifti, draw_volume):
    """Eight of them, each with its own voxels and the values 0, 2 and 7."""
    for number in range(8):
        image, label = draw_volume(number, (0, 2, 7), (6, 5, 4))
        write_nifti(tmp_path / f"raw/imagesTr/h_{number}.nii.gz", image)
        write_nifti(tmp_path / f"raw/labelsTr/h_{number}.nii.gz", label)
    (tmp_path / "raw/imagesTr/._h_0.nii.gz").write_bytes(b"as macOS leaves them")
    return tmp_path / "raw"


@pytest.fixture
def pictures(tmp_path, draw_picture, draw_mask):
    """Six of them, with their masks in the same folder."""
    for number in range(6):
        draw_picture(tmp_path / f"raw/p{number // 2}_{number}.png")
        draw_mask(tmp_path / f"raw/p{number // 2}_{number}_mask.png")
    return tmp_path / "raw"


def test_volumes_with_sparse_values(volumes, tmp_path, capsys):
    dataset_dir, datalist = prepare_folder(volumes, tmp_path / "out", VOLUMES, Classes(("front", "back")), name="H")
    assert "label values: 0 = 0 (background), 2 = 1 (front), 7 = 2 (back)" in capsys.readouterr().out
    content = read(datalist)
    assert [len(content[section]) for section in SECTIONS] == [5, 1, 2]
    assert (content["name"], content["label_names"], content["exclusive"]) == ("H", ["front", "back"], True)
    assert check_dataset(datalist, dataset_dir, progress=False) == []
    for case in load_volumes(datalist, dataset_dir, "training"):
        assert set(np.unique(np.load(case["label"]))) == {0, 1, 2}


@pytest.mark.parametrize(
    ("columns", "plane"),
    [("PSR", (9, 8)), ("RSA", (9, 8)), ("RAS", (9, 8))],  # sagittal, coronal, axial: the third axis is thick
)
def test_planes_are_cut_as_they_were_acquired(tmp_path, write_nifti, draw_volume, columns, plane):
    turned = nibabel.orientations.axcodes2ornt(columns)
    affine = np.zeros((4, 4))
    for axis, (to, sign) in enumerate(turned):
        affine[int(to), axis] = sign * (1, 1, 3)[axis]
    affine[3, 3] = 1
    for number in range(4):
        for kind, voxels in zip(("imagesTr", "labelsTr"), draw_volume(number, (0, 1), (8, 9, 4)), strict=True):
            write_nifti(tmp_path / f"raw/{kind}/{number}.nii.gz", voxels, affine)
    dataset_dir, datalist = prepare_folder(tmp_path / "raw", tmp_path / "out", VOLUMES)
    assert read(datalist).get("acquired", False) == (columns != "RAS")
    item = load_volumes(datalist, dataset_dir, "training")[0]
    assert sorted(np.load(item["image"]).shape[2:]) == sorted(plane)
    assert findings_of(datalist, dataset_dir).acquired == (columns != "RAS")


def test_every_broken_volume_is_named(volumes, write_nifti, tmp_path):
    """Neither a header without a place nor labels of several channels hide the others."""
    affine = np.eye(4)
    affine[0, 3] = np.nan
    write_nifti(volumes / "imagesTr/h_1.nii.gz", np.ones((6, 5, 4), np.int16), affine)
    for number in (2, 3):
        write_nifti(
            volumes / f"labelsTr/h_{number}.nii.gz", np.eye(4, dtype=np.uint8)[np.arange(120).reshape(6, 5, 4) % 4]
        )
    with pytest.raises(ValueError) as found:
        prepare_folder(volumes, tmp_path / "out", VOLUMES)
    for name in ("imagesTr/h_1", "labelsTr/h_2", "labelsTr/h_3"):
        assert f"{name}.nii.gz" in str(found.value)


def test_raw_values_are_told_by_the_datalist(volumes, tmp_path):
    _, datalist = prepare_folder(volumes, tmp_path / "out", VOLUMES)
    assert read(datalist)["source_label_values"] == {"0": 0, "2": 1, "7": 2}


@pytest.mark.parametrize("colour", [(255, 0, 0), (1, 0, 0), (255, 255, 248)])
def test_coloured_labels_are_told_as_such(pictures, tmp_path, colour):
    for file in pictures.glob("*_mask.png"):
        mask = np.zeros((16, 24, 3), np.uint8)
        mask[4:9, 4:9] = colour
        Image.fromarray(mask).save(file)
    with pytest.raises(ValueError, match="3 channels; expected one grey value a class"):
        prepare_folder(pictures, tmp_path / "out", PICTURES, Classes(("a", "b")))


def test_a_second_run_keeps_what_is_there(volumes, tmp_path):
    _, datalist = prepare_folder(volumes, tmp_path / "out", VOLUMES)
    first, case = datalist.read_bytes(), tmp_path / "out/cases/h_0_image.npy"
    before = case.stat().st_mtime_ns
    prepare_folder(volumes, tmp_path / "out", VOLUMES)
    assert (datalist.read_bytes(), case.stat().st_mtime_ns) == (first, before)
    with pytest.raises(ValueError, match=r"is of raw; expected other or no datalist"):
        prepare_folder(volumes, tmp_path / "out", VOLUMES, name="other")


def test_channels_are_files_and_have_names(volumes, tmp_path):
    for number in range(8):
        shutil.copy(volumes / f"imagesTr/h_{number}.nii.gz", volumes / f"h_{number}_t2.nii.gz")
    layout = Layout(("imagesTr/{id}.nii.gz", "{id}_t2.nii.gz"), "labelsTr/{id}.nii.gz")
    dataset_dir, datalist = prepare_folder(volumes, tmp_path / "out", layout)
    content = read(datalist)
    assert (content["channels"], content["channel_names"]) == (2, ["imagesTr", "t2"])
    assert np.load(dataset_dir / content["training"][0]["image"]).shape == (4, 2, 6, 5)


def test_channels_are_named_by_what_tells_them_apart(volumes, tmp_path):
    for number in range(8):
        for name in ("T1", "T2"):
            place = volumes / f"h_{number}/{name}/image.nii.gz"
            place.parent.mkdir(parents=True)
            shutil.copy(volumes / f"imagesTr/h_{number}.nii.gz", place)
    layout = Layout(("{id}/T1/image.nii.gz", "{id}/T2/image.nii.gz"), "labelsTr/{id}.nii.gz")
    assert read(prepare_folder(volumes, tmp_path / "out", layout)[1])["channel_names"] == ["T1", "T2"]


def test_volumes_in_microns_are_refused(volumes, tmp_path):
    image = nibabel.load(volumes / "imagesTr/h_3.nii.gz")
    image.header.set_xyzt_units("micron")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), image.get_filename())
    with pytest.raises(ValueError, match=r"imagesTr/h_3.nii.gz: the unit micron; expected mm"):
        prepare_folder(volumes, tmp_path / "out", VOLUMES)


def test_a_name_that_is_no_text_is_refused_with_its_bytes(pictures, tmp_path):
    (pictures / "p0_0.png").rename(os.fsdecode(bytes(pictures / "p") + b"\xfc_0.png"))
    with pytest.raises(ValueError, match=r"'p.udcfc_0.png': a name that is no UTF-8; expected text: rename it"):
        prepare_folder(pictures, tmp_path / "out", PICTURES)


def test_channels_in_another_order_are_prepared_again(volumes, tmp_path):
    for number in range(8):
        image = nibabel.load(volumes / f"imagesTr/h_{number}.nii.gz")
        brighter = nibabel.Nifti1Image(np.asarray(image.dataobj) + 500, image.affine)
        nibabel.save(brighter, volumes / f"h_{number}_t2.nii.gz")
    patterns = ("imagesTr/{id}.nii.gz", "{id}_t2.nii.gz")
    for order, brightest in ((patterns, 1), (patterns[::-1], 0)):
        dataset_dir, datalist = prepare_folder(volumes, tmp_path / "out", Layout(order, "labelsTr/{id}.nii.gz"))
        content = read(datalist)
        image = np.load(dataset_dir / content["training"][0]["image"])
        assert content["channel_names"][brightest] == "t2" and image.mean((0, 2, 3)).argmax() == brightest


def test_pictures_stay_where_they_are_and_the_longer_pattern_wins(pictures, tmp_path):
    dataset_dir, datalist = prepare_folder(pictures, tmp_path / "out", PICTURES, split=Split(0.2, 0.2))
    content = read(datalist)
    assert dataset_dir == pictures
    assert content["label_values"] == {"0": 0, "255": 1}
    assert content["label_names"] == ["foreground"]
    assert ids(content) == {f"p{number // 2}_{number}" for number in range(6)}
    assert check_dataset(datalist, dataset_dir, progress=False) == []


@pytest.mark.parametrize("how", ["folder", "expression"])
def test_cases_of_a_patient_stay_together(pictures, tmp_path, how):
    layout = Layout(PICTURES.images, PICTURES.labels, patient="^(p[0-9])")
    if how == "folder":
        for file in sorted(pictures.glob("*.png")):
            (pictures / file.name[:2]).mkdir(exist_ok=True)
            file.rename(pictures / file.name[:2] / file.name[3:])
        layout = Layout(("{patient}/{id}.png",), "{patient}/{id}_mask.png")
    content = read(prepare_folder(pictures, tmp_path / "out", layout)[1])
    assert {case["patient"] for section in SECTIONS for case in content[section]} == {"p0", "p1", "p2"}
    assert [len(content[section]) for section in SECTIONS] == [2, 2, 2]
    check_leakage(content)
    assert ids(content) == {f"p{number // 2}_{number}" for number in range(6)}


def test_jpeg_masks_need_a_threshold(tmp_path, draw_picture, draw_mask):
    for number in range(4):
        draw_picture(tmp_path / f"raw/{number}.png")
        draw_mask(tmp_path / f"raw/{number}_mask.jpg")
    layout = Layout(("{id}.png",), "{id}_mask.jpg")
    with pytest.raises(ValueError, match="or, where JPEG has blurred a mask of two values, set --label_threshold 127"):
        prepare_folder(tmp_path / "raw", tmp_path / "out", layout)
    content = read(prepare_folder(tmp_path / "raw", tmp_path / "out", layout, Classes(label_threshold=127))[1])
    assert content["label_threshold"] == 127 and "label_values" not in content


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (range(40), r"labels hold 40 values so far, \{0, 1, 2, 3, 4\} and 35 more; expected the few of a mask"),
        ((1, 2), r"the labels hold \{1, 2\}; expected 0 for the background"),
        ((0,), r"the labels hold \{0\}; expected 0 for the background and one value or more"),
        ((-1, 0, 1), r"labels hold \{-1, 0, 1\}; expected whole numbers from 0 on"),
        ((0, 0.5), r"labels hold \{0, 0.5\}; expected whole numbers"),
    ],
)
def test_values_that_are_no_classes(tmp_path, write_nifti, values, message):
    write_nifti(tmp_path / "label.nii.gz", np.resize(np.array(values, np.float32), (6, 5, 4)))
    with pytest.raises(ValueError, match=message):
        find_label_values([tmp_path / "label.nii.gz"])


def test_values_may_be_told(volumes, tmp_path):
    told = Classes(("any",), {0: 0, 2: 1, 7: 1})
    content = read(prepare_folder(volumes, tmp_path / "out", VOLUMES, told)[1])
    assert content["label_names"] == ["any"]
    for wrong, message in (
        (Classes(("a",)), r"names \['a'\] for label values .* expected 2, all different"),
        (Classes(None, {0: 0, 2: 2}), r"expected classes 0, 1 and on without a gap"),
        (Classes(None, None, 127), "label_threshold is for pictures"),
        (Classes(None, {0: 0, 2: 1}), r"8 problem\(s\)"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare_folder(volumes, tmp_path / "new", VOLUMES, wrong)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ("imagesTr/a.nii.gz", "labelsTr/{id}.nii.gz", r"has placeholders \[\]; expected \{id\}, \{patient\} or both"),
        ("imagesTr/{case}.nii.gz", "labelsTr/{id}.nii.gz", r"has placeholders \['case'\]"),
        ("../{id}.nii.gz", "labelsTr/{id}.nii.gz", "leads out of the source"),
        ("images/{id}.nii.gz", "labelsTr/{id}.nii.gz", r"no file matches images 'images/.*there are imagesTr/h_"),
        ("imagesTr/{id}.nii.gz", "labelsTr/{id}", r"have no case in common; expected the same \{id\} in both"),
        ("imagesTr/{id}.nii.gz", "imagesTr/{id}.nii.gz", "expected different ones for images and labels"),
        ("{patient}/{id}.nii.gz", "labelsTr/{id}.nii.gz", r"expected the same in all: write \*"),
        ("imagesTr/{id}", "labelsTr/{id}.txt", "no file matches labels"),
    ],
)
def test_wrong_patterns(volumes, tmp_path, images, labels, message):
    with pytest.raises(ValueError, match=message):
        prepare_folder(volumes, tmp_path / "out", Layout((images,), labels))


def test_every_wrong_file_is_named(volumes, tmp_path):
    (volumes / "labelsTr/h_1.nii.gz").unlink()
    (volumes / "imagesTr/h_2.nii.gz").unlink()
    whole = (volumes / "imagesTr/h_3.nii.gz").read_bytes()
    (volumes / "imagesTr/h_3.nii.gz").write_bytes(whole[: len(whole) // 2])
    shutil.copy(volumes / "imagesTr/h_4.nii.gz", volumes / "imagesTr/h_5.nii.gz")
    (volumes / "imagesTr/x").mkdir()
    with pytest.raises(ValueError, match=r"4 problem\(s\), no datalist written") as error:
        prepare_folder(volumes, tmp_path / "out", VOLUMES)
    for text in (
        "labelsTr/h_1.nii.gz: no such file",
        "imagesTr/h_2.nii.gz: no such file",
        "imagesTr/h_3.nii.gz: not readable",
        "imagesTr/h_5.nii.gz: the same voxels as",
    ):
        assert text in str(error.value)
    assert not (tmp_path / "out/datalist.json").exists()


def test_every_wrong_picture_is_named(pictures, tmp_path):
    (pictures / "p0_1_mask.png").unlink()
    (pictures / "p1_2.png").unlink()
    (pictures / "p2_4.png").write_bytes((pictures / "p2_4.png").read_bytes()[:300])
    shutil.copy(pictures / "p0_0.png", pictures / "p2_5.png")
    with pytest.raises(ValueError, match=r"4 problem\(s\)") as error:
        prepare_folder(pictures, tmp_path / "out", PICTURES)
    for text in (
        "p0_1_mask.png: no such file",
        "p1_2.png: no such file",
        "p2_4.png: not readable",
        "the same image as",
    ):
        assert text in str(error.value)


def test_two_files_for_one_case(pictures, tmp_path):
    (pictures / "a").mkdir()
    shutil.copy(pictures / "p0_0.png", pictures / "a" / "p0_0.png")
    (pictures / "b").mkdir()
    shutil.copy(pictures / "p0_1.png", pictures / "b" / "p0_0.png")
    layout = Layout(("*/{id}.png",), "{id}_mask.png")
    with pytest.raises(ValueError, match="b/p0_0.png: the second file of a case, beside a/p0_0.png"):
        prepare_folder(pictures, tmp_path / "out", layout)


@pytest.mark.parametrize(
    ("expression", "message"),
    [("^q", "has 0 groups"), ("^(q)", "finds none in id 'p0_0'"), ("(", "unterminated|missing")],
)
def test_wrong_patient_expressions(pictures, tmp_path, expression, message):
    layout = Layout(PICTURES.images, PICTURES.labels, expression)
    with pytest.raises(ValueError, match=message):
        prepare_folder(pictures, tmp_path / "out", layout)


def test_sections_are_drawn_by_patients():
    patients = [f"p{number}" for number in range(20)]
    drawn = draw_sections(patients, Split(0.15, 0.2))
    assert [list(drawn.values()).count(section) for section in SECTIONS] == [13, 3, 4]
    assert drawn == draw_sections(patients[::-1], Split(0.15, 0.2)) != draw_sections(patients, Split(0.15, 0.2, 1))
    assert set(draw_sections(patients, Split(0, 1)).values()) == {"test"}
    assert set(draw_sections(patients[:2], Split(0.5, 0)).values()) == {"training", "validation"}
    with pytest.raises(ValueError, match="expected one or more in every section"):
        draw_sections(["a", "b"], Split())
    with pytest.raises(ValueError, match="1 at most in sum"):
        draw_sections(patients, Split(0.6, 0.6))
    with pytest.raises(ValueError, match="'a third'.*correct --validation"):
        draw_sections(patients, Split("a third", 0.2))
    with pytest.raises(ValueError, match="True.*correct --validation"):
        draw_sections(patients, Split(True, 0))


def test_the_verb_prints_what_a_bundle_takes(volumes, tmp_path, capsys):
    line = ["datalist", "--source", str(volumes), "--images", VOLUMES.images[0], "--labels", VOLUMES.labels]
    line += ["--output", str(tmp_path / "out")]
    main([*line, "--names", "front,back", "--label_values", "{0:0,2:1,7:2}", "--name", "7"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "label values: 0 = 0 (background), 2 = 1 (front), 7 = 2 (back)",
        "training: 5 cases, validation: 1 cases, test: 2 cases",
        f"--dataset_dir {tmp_path / 'out'} --datalist_file {tmp_path / 'out' / 'datalist.json'}",
    ]
    with pytest.raises(SystemExit):
        main([*line, "--label_values", "0:0,2:1"])
    assert "expected value to class" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*line, "--label_values", "{0:0,2:[1]}"])
    assert "expected value to class" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*line, "--label_threshold", "half"])
    assert "label_threshold 'half'; expected a whole number" in capsys.readouterr().err
