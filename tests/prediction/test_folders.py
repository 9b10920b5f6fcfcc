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
from hidiff_monai.prediction.summary import format_summary

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
    assert case["status"] == "done" and "written" not in case and case["edited"] == []
    edited = nibabel.Nifti1Image(np.ones((20, 24, 3), np.uint8), np.eye(4))
    nibabel.save(edited, mask)
    manifest = run_prediction(**run, steps=2)  # nothing to do anew: it stays, and the figures are said to be older
    assert manifest is not None and manifest["done_before"] == 1
    (case_before,) = manifest["cases"]
    assert case_before["status"] == "done" and case_before["edited"] == ["a_mask.nii.gz"]
    assert "figures are of what was written: a" in format_summary(manifest, tmp_path / "out")
    assert "changed since, the figures are of what was written: a_mask" in (tmp_path / "out/index.html").read_text()
    for steps in (1, 1):
        (case,) = run_prediction(**run, steps=steps)["cases"]
        assert case["status"] == "failed" and "a_mask.nii.gz: was changed after" in case["error"]
        assert (np.asarray(nibabel.load(mask).dataobj) == 1).all()
    manifest = run_prediction(**run, steps=2)  # as before: it stands again, and is still said to be changed
    assert manifest is not None and manifest["done_before"] == 1
    assert manifest["cases"] == [case_before]
    run_prediction(**run, steps=1)
    mask.rename(tmp_path / "mine.nii.gz")  # as the sentence says
    (case,) = run_prediction(**run, steps=1)["cases"]
    assert case["status"] == "done" and (np.asarray(nibabel.load(mask).dataobj) != 1).any()
    (tmp_path / "out" / "a_rtstruct.dcm").write_bytes(b"a reader's own")
    (case,) = run_prediction(**run, steps=2)["cases"]
    assert case["status"] == "failed" and "a_rtstruct.dcm: is in the output folder already" in case["error"]
    assert (tmp_path / "out" / "a_rtstruct.dcm").read_bytes() == b"a reader's own"


def test_a_mask_drawn_for_a_case_that_failed_stays(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photograph(tmp_path / "in" / "a.png", size=(50, 70))
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    with monkeypatch.context() as context:
        context.setattr(run_module, "draw_case", lambda *_: 1 / 0)
        (case,) = run_prediction(**run)["cases"]
    mask = tmp_path / "out" / "a_mask.png"
    assert case["status"] == "failed" and not mask.exists(), "half a case is left"
    mask.write_bytes(b"a reader's own")
    for _ in range(2):
        (case,) = run_prediction(**run)["cases"]
        assert case["status"] == "failed" and "a_mask.png: is in the output folder already" in case["error"]
        assert mask.read_bytes() == b"a reader's own"
    mask.unlink()
    (tmp_path / "out" / ".a_mask.png.123.tmp").write_bytes(b"of a killed process")
    (case,) = run_prediction(**run)["cases"]
    assert case["status"] == "done" and not list((tmp_path / "out").glob(".*.tmp"))


def test_label_values_are_told_to_a_bundle_that_has_none(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "in" / "a.png", size=(50, 70))
    label = np.full((50, 70), 3, np.uint8)
    label[:9] = 7
    (tmp_path / "labels").mkdir()
    Image.fromarray(label).save(tmp_path / "labels" / "a_gt.PNG")
    run = {"source": tmp_path / "in", "labels": tmp_path / "labels", **bundle_arguments("kvasir_seg")}
    (case,) = run_prediction(output=tmp_path / "out", **run)["cases"]
    assert case["status"] == "failed" and "values up to 7; expected 0 and one other value" in case["error"]
    overrides = {**run["overrides"], "label_values": {"3": 0, "7": 1}}
    manifest = run_prediction(output=tmp_path / "out", **{**run, "overrides": overrides})
    mask = np.asarray(Image.open(tmp_path / "out" / "a_mask.png")) > 0
    truth = label == 7
    (score,) = manifest["cases"][0]["classes"]
    assert score["dice"] == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    assert "label_values" not in manifest["overrides"], "no mask depends on them"


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
