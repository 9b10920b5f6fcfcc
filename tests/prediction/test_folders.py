"""Folders of a run: whose results stand there already, which are replaced, and names that are odd."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from hidiff_monai.prediction import run as run_module
from hidiff_monai.prediction import run_prediction

Arguments = Callable[[str], dict[str, Any]]


def test_the_results_of_another_patient_of_the_same_name_stay(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    """for p in patient*; do hidiff predict --input $p --output masks; done"""
    arguments = bundle_arguments("kvasir_seg")
    states = []
    for patient in ("a", "b", "a"):
        if not (tmp_path / patient).exists():
            write_photograph(tmp_path / patient / "scan.png", size=(50, 70))
        (case,) = run_prediction(source=tmp_path / patient, output=tmp_path / "masks", **arguments)["cases"]
        states.append((case["status"], (tmp_path / "masks" / "scan_mask.png").stat().st_size > 0))
        if patient == "b":
            assert "results of another input of this name; expected one input an output folder" in case["error"]
        assert "owner" not in case
    assert states == [("done", True), ("failed", True), ("done", True)]
    (tmp_path / "a" / "scan.png").unlink()
    write_photograph(tmp_path / "a" / "scan.png", size=(40, 70))  # taken anew: a result replaces its own
    (case,) = run_prediction(source=tmp_path / "a", output=tmp_path / "masks", **arguments)["cases"]
    with Image.open(tmp_path / "masks" / "scan_mask.png") as mask:
        assert case["status"] == "done" and mask.size == (70, 40)


def test_a_mask_that_someone_has_changed_stays(
    tmp_path: Path, bundle_arguments: Arguments, write_volume: Callable[..., np.ndarray]
) -> None:
    write_volume(tmp_path / "in" / "a.nii.gz")
    mask = tmp_path / "out" / "a_mask.nii.gz"
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("acdc")}
    run_prediction(**run)
    mask.write_bytes(b"")  # as a full disk leaves it: made anew
    (case,) = run_prediction(**run)["cases"]
    assert case["status"] == "done" and nibabel.load(mask).shape == (20, 24, 3)
    (case,) = run_prediction(**run, steps=2)["cases"]  # an unchanged one is replaced
    assert case["status"] == "done" and "written" not in case
    edited = nibabel.Nifti1Image(np.ones((20, 24, 3), np.uint8), np.eye(4))
    nibabel.save(edited, mask)
    for steps in (1, 1):
        (case,) = run_prediction(**run, steps=steps)["cases"]
        assert case["status"] == "failed" and "a_mask.nii.gz: was changed after" in case["error"]
        assert (np.asarray(nibabel.load(mask).dataobj) == 1).all()
    mask.rename(tmp_path / "mine.nii.gz")  # as the sentence says
    (case,) = run_prediction(**run, steps=1)["cases"]
    assert case["status"] == "done" and (np.asarray(nibabel.load(mask).dataobj) != 1).any()
    (tmp_path / "out" / "a_rtstruct.dcm").write_bytes(b"a reader's own")
    (case,) = run_prediction(**run, steps=2)["cases"]
    assert case["status"] == "failed" and "a_rtstruct.dcm: is in the output folder already" in case["error"]
    assert (tmp_path / "out" / "a_rtstruct.dcm").read_bytes() == b"a reader's own"


def test_a_full_disk_or_quota_ends_the_run(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_volume: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(run_module, "write_case", fail)
    write_volume(tmp_path / "in" / "x.nii.gz")
    with pytest.raises(OSError, match="quota"):
        run_prediction(source=tmp_path / "in", output=tmp_path / "out", **bundle_arguments("acdc"))


def test_a_folder_with_a_hash_is_itself(
    tmp_path: Path, bundle_arguments: Arguments, write_volume: Callable[..., np.ndarray]
) -> None:
    """MONAI's configurations take # and @ for marks of their own, and p#1 for p::1."""
    for folder in ("p#1", "p::1", "@::x%y$z'"):
        write_volume(tmp_path / folder / f"of{len(folder)}.nii.gz")
        run = run_prediction(source=tmp_path / folder, output=tmp_path / "out", **bundle_arguments("acdc"))
        (case,) = run["cases"]
        assert (case["id"], case["status"]) == (f"of{len(folder)}", "done")
