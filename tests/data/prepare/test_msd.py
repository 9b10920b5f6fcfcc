"""MSD: ten volumes of one organ with Synapse's class number, to test only."""

import json

import numpy as np
import pytest

from hidiff_monai.data import load_volumes
from hidiff_monai.data.prepare import prepare_dataset
from hidiff_monai.data.prepare.synapse import ORGANS


@pytest.mark.parametrize(("organ", "values"), [("liver", (0, 1, 2)), ("pancreas", (0, 1, 2)), ("spleen", (0, 1))])
def test_ten_volumes_with_the_class_of_synapse(tmp_path, write_nifti, draw_volume, organ, values):
    raw = tmp_path / "raw"
    labels = {}
    for number in range(12):
        image, labels[f"{organ}_{number}"] = draw_volume(number, values, (6, 5, 4))
        write_nifti(raw / f"imagesTr/{organ}_{number}.nii.gz", image)
        write_nifti(raw / f"labelsTr/{organ}_{number}.nii.gz", labels[f"{organ}_{number}"])
    (raw / f"imagesTr/._{organ}_0.nii.gz").write_bytes(b"as in the archives")
    dataset_dir, datalist = prepare_dataset("msd", raw, tmp_path / "out")
    content = json.loads(datalist.read_text())
    assert (content["training"], content["validation"]) == ([], [])
    assert content["label_names"] == ORGANS and content["labelled_names"] == [organ]
    cases = load_volumes(datalist, dataset_dir, "test")
    assert len(cases) == 10
    for case in cases:
        prepared = np.load(case["label"])
        assert set(np.unique(prepared)) <= {0, ORGANS.index(organ) + 1}
        assert (prepared > 0).sum() == (labels[case["id"]] > 0).sum()


def test_two_tasks_in_one_folder_are_refused(tmp_path, write_nifti, draw_volume):
    for name in ("liver_0", "hepaticvessel_1"):
        write_nifti(tmp_path / f"imagesTr/{name}.nii.gz", draw_volume(0, (0, 1))[0])
    with pytest.raises(ValueError, match=r"files of \['hepaticvessel', 'liver'\]"):
        prepare_dataset("msd", tmp_path, tmp_path / "out")
