"""DICOM as archives and copies leave it: shared identifiers, cut-off files, rounded places."""

import importlib.util
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hidiff_monai.io import find_series, read_series

SPEC = importlib.util.spec_from_file_location("series", Path(__file__).with_name("series.py"))
assert SPEC is not None and SPEC.loader is not None
series = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(series)


def test_series_of_two_patients_that_share_a_uid_stay_apart(tmp_path: Path) -> None:
    """Poor anonymisation: the first's slices would go on where the second's end."""
    for number, origin in ((1, (-10.0, -20.0, 30.0)), (2, (-10.0, -20.0, 40.0))):
        uids = {"PatientID": f"P{number}", "StudyInstanceUID": f"1.2.3.{number}"}
        series.make_series(tmp_path / f"pat{number}" / "CT", series.make_volume(), origin=origin, **uids)
    found = find_series(tmp_path, progress=False)
    assert [(one.id, len(one.files)) for one in found] == [("pat1_CT", 4), ("pat2_CT", 4)]


@pytest.mark.parametrize("size", [0, 100])
def test_a_slice_cut_off_before_its_mark_is_told_by_its_name(tmp_path: Path, size: int) -> None:
    for number, file in enumerate(series.make_series(tmp_path / "in", series.make_volume())):
        Path(file).rename(tmp_path / "in" / f"IM{number}")
    for name in ("LOCKFILE", "IM_notes"):
        (tmp_path / "in" / name).write_bytes(b"")
    assert [len(one.files) for one in find_series(tmp_path / "in", progress=False)] == [4]
    whole = (tmp_path / "in" / "IM3").read_bytes()
    (tmp_path / "in" / "IM3").write_bytes(whole[:size])
    (found,) = find_series(tmp_path / "in", progress=False)
    with pytest.raises(ValueError, match="IM3: "):
        read_series(found.files)


def test_places_of_two_decimals_are_one_stack(tmp_path: Path) -> None:
    """0.625 mm apart, as 0.62 and 0.63 by turns."""
    files = series.make_series(tmp_path, series.make_volume((6, 5, 40)), spacing=(0.7, 0.7, 0.625))
    for file in files:
        data = pydicom.dcmread(file)
        data.ImagePositionPatient = [f"{float(value):.2f}" for value in data.ImagePositionPatient]
        data.save_as(file)
    volume = read_series(files)
    assert np.linalg.norm(volume.affine[:3, 2]) == pytest.approx(0.625, abs=1e-3)
    assert (volume.array == series.make_volume((6, 5, 40)).astype(int) - 1000).all()


def test_slices_that_share_an_instance_uid_are_refused(tmp_path: Path) -> None:
    files = series.make_series(tmp_path, series.make_volume(), SOPInstanceUID="1.2.3.4.5")
    with pytest.raises(ValueError, match="has the SOPInstanceUID of .*im.*: anonymise the originals again"):
        read_series(files)
