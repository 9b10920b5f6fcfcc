"""The made-up Synapse of the true size is a Synapse: here a small one goes through the preparation."""

import importlib.util
import json
from pathlib import Path

import nibabel
import numpy as np

from hidiff_monai.data.prepare import prepare_dataset

SPEC = importlib.util.spec_from_file_location("full_synapse", Path(__file__).with_name("full_synapse.py"))
assert SPEC is not None and SPEC.loader is not None
full_synapse = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(full_synapse)


def test_30_scans_of_the_published_split_with_every_raw_number(tmp_path, caplog):
    full_synapse.write_synapse(tmp_path, size=40, depths=(21, 30))
    _, datalist = prepare_dataset("synapse", tmp_path, tmp_path / "out")
    content = json.loads(datalist.read_text())
    depths = {case["id"]: case["slices"] for name in ("training", "validation", "test") for case in content[name]}
    assert [len(content[name]) for name in ("training", "validation", "test")] == [15, 3, 12]
    assert (min(depths.values()), max(depths.values())) == (21, 30)
    assert "18 of 18 training scans (validation included)" in caplog.text and "has 2211" in caplog.text

    raw = tmp_path / "RawData/Training"
    assert set(np.unique(np.asarray(nibabel.load(raw / "label/label0040.nii.gz").dataobj))) == set(range(14))
    with_intercept = nibabel.load(raw / "img/img0003.nii.gz")
    assert np.asarray(with_intercept.dataobj).dtype == np.float64
    assert np.load(tmp_path / "out/cases/0003_image.npy").dtype == np.int16  # whole Hounsfield units again
    assert np.load(tmp_path / "out/cases/0003_image.npy").min() < -900
