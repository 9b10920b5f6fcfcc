"""A run from files to files: what is written, what is kept, and what happens to bad cases."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from hidiff_monai.io.errors import find_value_error
from hidiff_monai.prediction import format_summary, run_prediction
from hidiff_monai.prediction import run as run_module

Arguments = Callable[[str], dict[str, Any]]
OBLIQUE = np.array([[-1.4, 0.2, 0.5, 10], [0.3, -1.2, 1.9, -20], [0.1, 0.4, 7.7, 30], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [np.diag([1.5, 1.5, 8, 1]), np.diag([-0.7, 1.2, -9, 1]), OBLIQUE])
def test_a_volume_gets_its_mask_on_its_own_grid(
    tmp_path: Path, bundle_arguments: Arguments, write_volume: Callable[..., np.ndarray], affine: np.ndarray
) -> None:
    write_volume(tmp_path / "in" / "heart.nii.gz", affine=affine)
    manifest = run_prediction(source=tmp_path / "in", output=tmp_path / "out", **bundle_arguments("acdc"))
    (case,) = manifest["cases"]
    assert case["status"] == "done" and case["outputs"]["mask"] == "heart_mask.nii.gz"
    mask, entropy = (nibabel.load(tmp_path / "out" / case["outputs"][key]) for key in ("mask", "uncertainty"))
    for image in (mask, entropy):
        assert image.shape == (20, 24, 3)
        np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    voxels = np.asarray(mask.dataobj)
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    for number, entry in enumerate(case["classes"], start=1):
        assert entry["pixels"] == (voxels == number).sum()
        assert entry["ml"] == pytest.approx(entry["pixels"] * voxel_ml, abs=1e-3)
    foreground = (voxels > 0).sum()
    assert case["uncertainty"] == pytest.approx(np.asarray(entropy.dataobj).sum() / foreground, rel=1e-3)


def test_a_photograph_gets_its_mask_at_its_own_size(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "in" / "polyp.png", size=(50, 70))
    arguments = bundle_arguments("kvasir_seg")
    manifest = run_prediction(source=tmp_path / "in" / "polyp.png", output=tmp_path / "out", **arguments)
    (case,) = manifest["cases"]
    with Image.open(tmp_path / "out" / "polyp_mask.png") as mask:
        assert mask.size == (70, 50) and set(np.unique(mask)) <= {0, 255}
        assert case["classes"][0]["pixels"] == (np.asarray(mask) > 0).sum()
    assert case["classes"][0]["ml"] is None and case["slice"] is None
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8").count("polyp") > 1


def test_bad_cases_are_named_and_cost_no_others(
    tmp_path: Path, bundle_arguments: Arguments, write_volume: Callable[..., np.ndarray]
) -> None:
    write_volume(tmp_path / "in" / "b_good.nii.gz")
    voxels = write_volume(tmp_path / "in" / "a_nan.nii.gz")
    voxels[3, 3, 1] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "in" / "a_nan.nii.gz")
    whole = (tmp_path / "in" / "b_good.nii.gz").read_bytes()
    (tmp_path / "in" / "c_cut.nii.gz").write_bytes(whole[:900])
    manifest = run_prediction(source=tmp_path / "in", output=tmp_path / "out", **bundle_arguments("acdc"))
    states = {case["id"]: case["status"] for case in manifest["cases"]}
    assert states == {"a_nan": "failed", "b_good": "done", "c_cut": "failed"}
    errors = {case["id"]: case.get("error") for case in manifest["cases"]}
    assert errors["a_nan"].startswith("a_nan.nii.gz: holds NaN") and "c_cut.nii.gz: not readable" in errors["c_cut"]
    summary = format_summary(manifest, tmp_path / "out")
    assert "1 of 3 case(s) predicted" in summary and "2 failed:" in summary and errors["a_nan"] in summary
    assert str(tmp_path / "in") not in (tmp_path / "out" / "manifest.json").read_text()
    left = {file.name for file in (tmp_path / "out").iterdir()}
    assert not any(name.startswith((".", "a_nan", "c_cut")) for name in left)


def test_an_unforeseen_error_tells_its_place_and_not_its_text(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_volume: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise KeyError("PatientName DOE^JANE")

    monkeypatch.setattr(run_module, "predict_case", fail)
    write_volume(tmp_path / "in" / "x.nii.gz")
    manifest = run_prediction(source=tmp_path / "in", output=tmp_path / "out", **bundle_arguments("acdc"))
    error = manifest["cases"][0]["error"]
    assert "KeyError in test_run.py" in error and "DOE" not in error


def test_a_second_run_does_only_what_is_missing_or_changed(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_volume: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predicted: list[str] = []
    original = run_module.read_case
    monkeypatch.setattr(
        run_module, "read_case", lambda model, item: (predicted.append(item["id"]), original(model, item))[1]
    )
    for name in ("a", "b", "c"):
        write_volume(tmp_path / "in" / f"{name}.nii.gz")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("acdc")}
    first = run_prediction(**run)
    assert predicted == ["a", "b", "c"]
    (tmp_path / "out" / "b_mask.nii.gz").unlink()
    os.utime(tmp_path / "in" / "c.nii.gz", ns=(1, 1))
    second = run_prediction(**run)
    assert predicted[3:] == ["b", "c"]
    assert [case["id"] for case in second["cases"]] == ["a", "b", "c"]
    assert second["done_before"] == 1 and "(1 of them before)" in format_summary(second, tmp_path / "out")
    assert second["cases"][0]["seconds"] == first["cases"][0]["seconds"]  # told as it was
    run_prediction(**{**run, "samples": 2})
    assert predicted[5:] == ["a", "b", "c"]


def test_an_interrupted_run_has_told_what_it_did(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_volume: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = run_module.read_case

    def stop_at_b(model: Any, item: dict[str, Any]) -> Any:
        if item["id"] == "b":
            raise KeyboardInterrupt
        return original(model, item)

    monkeypatch.setattr(run_module, "read_case", stop_at_b)
    for name in ("a", "b"):
        write_volume(tmp_path / "in" / f"{name}.nii.gz")
    with pytest.raises(KeyboardInterrupt):
        run_prediction(source=tmp_path / "in", output=tmp_path / "out", **bundle_arguments("acdc"))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [case["id"] for case in manifest["cases"]] == ["a"] and manifest["planned"] == 2


def test_labels_give_dice(tmp_path: Path, bundle_arguments: Arguments, write_volume: Callable[..., np.ndarray]) -> None:
    write_volume(tmp_path / "in" / "x.nii.gz")
    run: dict[str, Any] = {"source": tmp_path / "in", "labels": tmp_path / "labels", **bundle_arguments("acdc")}
    (tmp_path / "labels").mkdir()
    without = run_prediction(output=tmp_path / "first", **{**run, "labels": None})
    assert all(entry["dice"] is None for entry in without["cases"][0]["classes"])
    mask = nibabel.load(tmp_path / "first" / "x_mask.nii.gz")
    flipped = np.asarray(mask.dataobj)[::-1]  # the same voxels, stored the other way round
    affine = mask.affine @ np.array([[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(flipped, affine), tmp_path / "labels" / "x_gt.nii.gz")
    present = [entry for entry in run_prediction(output=tmp_path / "second", **run)["cases"][0]["classes"]]
    assert {entry["dice"] for entry in present if entry["pixels"]} == {1.0}
    nibabel.save(nibabel.Nifti1Image(np.asarray(mask.dataobj) + 9, mask.affine), tmp_path / "labels" / "x_gt.nii.gz")
    bad = run_prediction(output=tmp_path / "third", **run)["cases"][0]
    assert bad["status"] == "failed" and "expected class numbers 0 to 3" in bad["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "in/out"}, "lies in the folder of the input"),
        ({"output": "link/out"}, "lies in the folder of the input"),
        ({"source": "in/x.nii.gz", "output": "in"}, "lies in the folder of the input"),
        ({"labels": "in", "source": "in/x.nii.gz", "output": "in"}, "lies in the folder of the"),
        ({"source": "nowhere"}, "there is no such file or folder"),
        ({"labels": "nowhere"}, "--labels .*nowhere: is no folder"),
        ({"bundle": "nowhere"}, "inference.json is missing; expected a bundle's folder"),
        ({"checkpoint": "nowhere.pt"}, "there is no such checkpoint"),
        ({"device": "abacus"}, "--device abacus: there is none here"),
        ({"steps": 0}, "--steps 0; expected a whole number from 1"),
        ({"steps": 99}, "99"),
        ({"overrides": {"segmentor#chanels": [4]}}, "did you mean --segmentor#channels"),
    ],
)
def test_a_run_that_cannot_start_says_why(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_volume: Callable[..., np.ndarray],
    change: dict[str, Any],
    message: str,
) -> None:
    write_volume(tmp_path / "in" / "x.nii.gz")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    places = {"source", "output", "labels", "bundle", "checkpoint"}
    change = {key: tmp_path / value if key in places else value for key, value in change.items()}
    run = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("acdc"), **change}
    with pytest.raises((ValueError, RuntimeError)) as raised:
        run_prediction(**run)
    assert re.search(message, str(find_value_error(raised.value)))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_earlier_run_says_what_is_usual(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    for seed in range(6):
        write_photograph(tmp_path / "known" / f"{seed}.png", seed=seed)
    write_photograph(tmp_path / "in" / "x.png", seed=9)
    arguments = bundle_arguments("kvasir_seg")
    known = run_prediction(source=tmp_path / "known", output=tmp_path / "first", report=False, **arguments)
    usual = float(np.quantile([case["uncertainty"] for case in known["cases"]], 0.9))
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "second", **arguments}
    manifest = run_prediction(reference=tmp_path / "first", report=False, **run)
    assert manifest["hard_uncertainty"] == pytest.approx(usual)
    assert manifest["likeness"] is None and manifest["reference"] == {"source": "first", "cases": 6}
    summary = format_summary(manifest, tmp_path / "second")
    assert "reference: first, 6 cases; too few cases here to be compared with it as a whole" in summary
    assert "no reference says what is usual: docs/reference.json of the bundle is of another" in format_summary(
        known, tmp_path / "first"
    )
    (case,) = manifest["cases"]
    assert any("nats" in reason for reason in case["verdict"]["reasons"]) == (case["uncertainty"] > usual)
    with pytest.raises(ValueError, match="its samples is 4, that of this run 2; expected the same model"):
        run_prediction(reference=tmp_path / "first", samples=2, **run)
    with pytest.raises(ValueError, match="no manifest.json of an earlier run"):
        run_prediction(reference=tmp_path / "nowhere", **run)


def test_a_run_unlike_the_reference_as_a_whole_is_told(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    for seed in range(5):
        write_photograph(tmp_path / "in" / f"{seed}.png", seed=seed)
    run: dict[str, Any] = {"source": tmp_path / "in", **bundle_arguments("kvasir_seg")}
    first = run_prediction(output=tmp_path / "first", report=False, **run)
    again = run_prediction(output=tmp_path / "again", reference=tmp_path / "first", report=False, **run)
    assert again["likeness"]["share"] == 0.5 and again["likeness"]["warning"] is None
    summary = format_summary(again, tmp_path / "again")
    assert "reference: first, 5 cases; as a whole these are not more uncertain (50 of 100 pairs)" in summary

    surer = [{**case, "uncertainty": case["uncertainty"] / 100} for case in first["cases"]]
    (tmp_path / "first" / "manifest.json").write_text(json.dumps({**first, "cases": 4 * surer}))
    unlike = run_prediction(output=tmp_path / "unlike", reference=tmp_path / "first", **run)
    assert unlike["likeness"]["is_unlike"] and unlike["likeness"]["share"] == 1
    assert "WARNING: These cases as a whole are more uncertain" in format_summary(unlike, tmp_path / "unlike")
    page = (tmp_path / "unlike" / "index.html").read_text()
    assert "<p class='unlike' role='alert'>These cases as a whole are more uncertain" in page


def test_the_form_of_the_refiner_is_told_and_another_one_starts_anew(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    first = run_prediction(**run)
    assert re.fullmatch(r"folded|packed \(avx(2|512)\)", first["refiner"])
    assert run_prediction(**run)["done_before"] == 1
    eager = run_prediction(eager=True, **run)
    assert (eager["refiner"], eager["done_before"]) == ("eager", 0)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["refiner"] == "eager"
    assert run_prediction(**run)["done_before"] == 0


def test_what_is_usual_may_come_from_a_run_of_another_form(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    for seed in range(5):
        write_photograph(tmp_path / "in" / f"{seed}.png", seed=seed)
    run: dict[str, Any] = {"source": tmp_path / "in", "report": False, **bundle_arguments("kvasir_seg")}
    run_prediction(output=tmp_path / "first", eager=True, **run)
    assert run_prediction(output=tmp_path / "second", reference=tmp_path / "first", **run)["hard_uncertainty"] > 0


def read_pixels_told(manifest: dict[str, Any]) -> int:
    return int(manifest["cases"][0]["classes"][0]["pixels"])


def test_settings_that_changed_and_changed_back_never_keep_a_mask_of_the_others(
    tmp_path: Path,
    bundle_arguments: Arguments,
    write_photograph: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    arguments = bundle_arguments("kvasir_seg")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **arguments}
    other = {**run, "overrides": {**arguments["overrides"], "threshold": 0.9}}
    first = run_prediction(**run)

    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the masks are written, the record not yet
        patch.setattr(run_module, "draw_case", stop)
        with pytest.raises(KeyboardInterrupt):
            run_prediction(**other)
    again = run_prediction(**run)
    with Image.open(tmp_path / "out" / "x_mask.png") as mask:
        assert (np.asarray(mask) > 0).sum() == read_pixels_told(again) == read_pixels_told(first)


def test_a_changed_bundle_or_label_is_noticed(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    arguments = bundle_arguments("kvasir_seg")
    shutil.copytree(arguments["bundle"], tmp_path / "bundle", ignore=shutil.ignore_patterns("output*"))
    (tmp_path / "labels").mkdir()
    places = {"source": tmp_path / "in", "output": tmp_path / "out", "labels": tmp_path / "labels"}
    run: dict[str, Any] = {**arguments, **places, "bundle": tmp_path / "bundle"}
    with pytest.raises(ValueError, match="no label for any of the 1 cases; expected x.nii.gz"):
        run_prediction(**run)
    run_prediction(**{**run, "labels": None})
    shutil.copyfile(tmp_path / "out" / "x_mask.png", tmp_path / "labels" / "x.png")
    assert run_prediction(**run)["cases"][0]["classes"][0]["dice"] == 1
    config = tmp_path / "bundle" / "configs" / "inference.json"
    config.write_text(config.read_text().replace('"threshold": 0.5', '"threshold": 0.999'))
    assert run_prediction(**run)["threshold"] == 0.999
    with Image.open(tmp_path / "out" / "x_mask.png") as mask:
        assert not np.asarray(mask).any()


def test_nothing_of_an_earlier_result_stands_beside_a_failure(
    tmp_path: Path, bundle_arguments: Arguments, write_volume: Callable[..., np.ndarray]
) -> None:
    write_volume(tmp_path / "in" / "x.nii.gz")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("acdc")}
    run_prediction(**run)
    (tmp_path / "in" / "x.nii.gz").write_bytes(b"broken")
    manifest = run_prediction(report=False, **run)
    assert manifest["cases"][0]["status"] == "failed"
    files = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert files == {"manifest.json", "cases/x.json"}


def test_a_file_of_the_users_is_not_overwritten(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x_mask.png").write_bytes(b"mine")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    for _ in range(2):
        assert "x_mask.png: is in the output folder already" in run_prediction(**run)["cases"][0]["error"]
        assert (tmp_path / "out" / "x_mask.png").read_bytes() == b"mine"
    (tmp_path / "out" / "x_mask.png").unlink()
    assert run_prediction(**run)["cases"][0]["status"] == run_prediction(**run)["cases"][0]["status"] == "done"


@pytest.mark.parametrize("name", ["n" * 245, "M\udcfcller", "Müller <b>", "a$b@c#d"])
def test_odd_names_cost_no_run(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None], name: str
) -> None:
    write_photograph(tmp_path / "in" / f"{name}.png")
    write_photograph(tmp_path / "in" / "z.png")
    run: dict[str, Any] = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    cases = run_prediction(**run)["cases"]
    assert [case["status"] for case in cases] == ["done", "done"], cases
    assert (tmp_path / "out" / "index.html").is_file()


def test_the_page_and_the_manifest_name_no_folder_of_the_user(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "doe_in" / "x.png")
    (tmp_path / "doe_labels").mkdir()
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "doe_labels" / "x.png")
    places = {"source": tmp_path / "doe_in", "output": tmp_path / "out", "labels": tmp_path / "doe_labels"}
    (case,) = run_prediction(**places, **bundle_arguments("kvasir_seg"))["cases"]
    assert case["error"].startswith("x.png: shape (3, 3); expected")
    for file in ("manifest.json", "index.html"):
        assert "doe_" not in (tmp_path / "out" / file).read_text(encoding="utf-8")
