"""Broken downloads are named file by file before there is a datalist, and an interrupted run goes on."""

import json
import shutil

import numpy as np
import pytest

from hidiff_monai.data import check_dataset
from hidiff_monai.data.prepare import cases, prepare_dataset
from hidiff_monai.data.prepare.splits import draw_order


@pytest.fixture
def raw(tmp_path, write_nifti, draw_volume):
    """Four scans of Synapse, two for training and two to test, tiny."""
    folder = tmp_path / "raw"
    for number in ("0001", "0002", "0005", "0006"):
        image, label = draw_volume(int(number), tuple(range(14)))
        write_nifti(folder / f"img/img{number}.nii.gz", image)
        write_nifti(folder / f"label/label{number}.nii.gz", label)
    return folder


def _refused(raw, tmp_path):
    """The lines of the refusal, without its head; there must be no datalist."""
    with pytest.raises(ValueError, match="no datalist written") as error:
        prepare_dataset("synapse", raw, tmp_path / "out")
    assert not (tmp_path / "out/datalist.json").exists()
    return str(error.value).splitlines()[1:]


def test_every_broken_file_is_named_at_once(raw, tmp_path, write_nifti, draw_volume):
    image, label = draw_volume(9, (0, 1, 14, 99))
    (raw / "label/label0001.nii.gz").unlink()
    truncated = raw / "img/img0002.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    write_nifti(raw / "label/label0005.nii.gz", label)
    write_nifti(raw / "label/label0006.nii.gz", label[:, :, :-1] * 0)
    lines = _refused(raw, tmp_path)
    assert len(lines) == 4
    for line, file, found in zip(
        lines,
        ("label/label0001", "img/img0002", "label/label0005", "label/label0006"),
        ("no such file", "not readable", "grey values {14, 99}", "grid (12, 10, 5)"),
        strict=True,
    ):
        assert str(raw / file) in line
        assert found in line


def test_an_affine_of_its_own_is_another_grid(raw, tmp_path, write_nifti, draw_volume):
    write_nifti(raw / "label/label0005.nii.gz", draw_volume(5, (0, 1))[1], np.diag([1.0, 1, 3, 1]))
    (line,) = _refused(raw, tmp_path)
    assert "label0005.nii.gz: affine" in line


def test_an_affine_without_inverse_is_refused(raw, tmp_path, write_nifti, draw_volume):
    for kind, array in zip(("img", "label"), draw_volume(5, (0, 1)), strict=True):
        file = raw / f"{kind}/{kind}0005.nii"
        write_nifti(file, array)
        content = bytearray(file.read_bytes())
        content[312:328] = bytes(16)  # the third row of the affine
        file.write_bytes(content)
    lines = _refused(raw, tmp_path)
    assert len(lines) == 2
    assert all("cannot be inverted" in line for line in lines)


def test_a_label_without_image_is_named(raw, tmp_path):
    (raw / "img/img0006.nii.gz").unlink()
    (line,) = _refused(raw, tmp_path)
    assert "img0006.nii.gz: no such file" in line


def test_a_copy_under_another_name_is_named_with_both_sections(raw, tmp_path, write_nifti, draw_volume):
    image, label = draw_volume(1, tuple(range(14)))  # zipped anew: the bytes of the files differ, the voxels do not
    write_nifti(raw / "img/img0007.nii", image)
    write_nifti(raw / "label/label0007.nii", label)
    (line,) = _refused(raw, tmp_path)
    assert "img0007.nii: the same voxels as" in line
    assert "img0001.nii.gz (test, this one training)" in line


def test_values_that_are_not_finite_are_named(raw, tmp_path, write_nifti, draw_volume):
    image = draw_volume(5, (0,))[0].astype(np.float32)
    image[0, 0, :2] = np.nan
    write_nifti(raw / "img/img0005.nii.gz", image)
    (line,) = _refused(raw, tmp_path)
    assert "img0005.nii.gz: 2 pixels are NaN" in line


def test_integers_stay_int16_and_fractions_become_float32(raw, tmp_path, write_nifti, draw_volume):
    write_nifti(raw / "img/img0005.nii.gz", draw_volume(5, (0,))[0] + 0.25)
    prepare_dataset("synapse", raw, tmp_path / "out")
    folder = tmp_path / "out/cases"
    assert np.load(folder / "0001_image.npy").dtype == np.int16
    assert np.load(folder / "0005_image.npy").dtype == np.float32
    assert np.load(folder / "0005_label.npy").dtype == np.uint8


def test_an_interrupted_run_goes_on_and_only_redoes_what_changed(raw, tmp_path, monkeypatch, write_nifti, draw_volume):
    done = []
    monkeypatch.setattr(
        "hidiff_monai.data.prepare.volumes.write_case",
        lambda case, *rest: (_stop_at_third(done), done.append(case.id), cases.write_case(case, *rest))[-1],
    )
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset("synapse", raw, tmp_path / "out")
    assert done == ["0001", "0002"]
    assert not (tmp_path / "out/datalist.json").exists()
    done += ["stopped"]
    prepare_dataset("synapse", raw, tmp_path / "out")
    assert done[3:] == ["0005", "0006"]

    first = (tmp_path / "out/datalist.json").read_bytes()
    del done[:]
    done += ["again", "and", "again"]
    prepare_dataset("synapse", raw, tmp_path / "out")
    assert done[3:] == []
    assert (tmp_path / "out/datalist.json").read_bytes() == first

    write_nifti(raw / "img/img0002.nii.gz", draw_volume(77, (0,))[0])
    (tmp_path / "out/cases/0005_image.npy").write_bytes(b"cut")
    (tmp_path / "out/cases/0006.json").unlink()
    prepare_dataset("synapse", raw, tmp_path / "out")
    assert done[3:] == ["0002", "0005", "0006"]


def _stop_at_third(done):
    if len(done) == 2:
        raise KeyboardInterrupt


def test_a_refused_rerun_leaves_the_earlier_datalist(raw, tmp_path):
    datalist = prepare_dataset("synapse", raw, tmp_path / "out")[1]
    before = datalist.read_bytes()
    (raw / "label/label0001.nii.gz").unlink()
    with pytest.raises(ValueError, match="label0001"):
        prepare_dataset("synapse", raw, tmp_path / "out")
    assert datalist.read_bytes() == before


def test_nothing_is_left_beside_what_was_announced(raw, tmp_path):
    shutil.copyfile(raw / "img/img0001.nii.gz", raw / "img/._img0001.nii.gz")  # as macOS leaves them in archives
    prepare_dataset("synapse", raw, tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").rglob("*") if file.is_file()}
    ends = ("_image.npy", "_label.npy", ".json")
    assert names == {"datalist.json"} | {f"{n}{end}" for n in ("0001", "0002", "0005", "0006") for end in ends}


def test_a_folder_of_another_data_set_is_not_overwritten(raw, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/datalist.json").write_text(json.dumps({"name": "ACDC"}))
    with pytest.raises(ValueError, match="is of ACDC; expected Synapse"):
        prepare_dataset("synapse", raw, tmp_path / "out")


def test_unknown_data_set_and_source_are_named(tmp_path):
    with pytest.raises(ValueError, match="got dataset 'kits'; expected one of"):
        prepare_dataset("kits", tmp_path, tmp_path / "out")
    for name in ("acdc", "brats", "msd", "synapse"):
        with pytest.raises(ValueError, match="correct source|as source"):
            prepare_dataset(name, tmp_path, tmp_path / "out")
        with pytest.raises(ValueError, match="not a folder"):
            prepare_dataset(name, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out/datalist.json").exists()


def test_drawn_order_is_fixed_and_survives_a_missing_name():
    names = ["a", "b", "c", "d", "e"]
    order = draw_order(names, seed=0)
    assert order == ["d", "a", "c", "b", "e"]  # as `sha256sum` orders 0:a, 0:b and so on
    assert sorted(order) == names
    assert draw_order(reversed(names[1:]), seed=0) == [name for name in order if name != "a"]
    assert draw_order(names, seed=1) != order


def test_check_compares_prepared_volumes_with_their_datalist(raw, tmp_path):
    dataset_dir, datalist = prepare_dataset("synapse", raw, tmp_path / "out")
    assert check_dataset(datalist, dataset_dir, progress=False) == []
    content = json.loads(datalist.read_text())
    content["training"][0]["slices"] += 1
    datalist.write_text(json.dumps(content))
    (dataset_dir / content["test"][0]["image"]).with_name("0001.json").unlink()
    depth, geometry = check_dataset(datalist, dataset_dir, progress=False)
    assert (depth.case_id, depth.found, depth.expected) == ("0005", "6 slices", "the datalist's 7")
    assert geometry.case_id == "0001" and "0001.json: not readable" in geometry.found
