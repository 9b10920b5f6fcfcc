"""An oracle predicts, and its masks must end up where they were told: the real CHAOS series and made-up ones."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from hidiff_monai.inferers import VolumeInferer
from hidiff_monai.prediction import load_model, run_prediction
from hidiff_monai.prediction import run as run_module

LIVER = 5  # of Synapse's classes


def load(name: str, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
oracle, series = load("oracle", HERE), load("series", HERE.parent / "io")
Predict = Callable[..., list[dict[str, Any]]]


def window(values: np.ndarray) -> np.ndarray:
    """What the Synapse bundle makes of Hounsfield units."""
    return np.clip((values.astype(np.float32) + 125) / 400, 0, 1)


@pytest.fixture
def predict_with_oracle(
    tmp_path: Path, bundle_arguments: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Predict:
    """Runs the Synapse bundle with an oracle that was told the stored slices and their masks; returns the cases."""

    def predict(source: Path, planes: list[tuple[np.ndarray, np.ndarray]], **options: Any) -> list[dict[str, Any]]:
        inferer = VolumeInferer(oracle.Oracle(planes, window, num_classes=9), progress=False)

        def load_with_oracle(*arguments: Any, **keywords: Any) -> Any:
            return dataclasses.replace(load_model(*arguments, **keywords), inferer=inferer)

        monkeypatch.setattr(run_module, "load_model", load_with_oracle)
        run = {"source": source, "output": tmp_path / "out", **bundle_arguments("synapse"), **options}
        return run_prediction(**run)["cases"]

    return predict


def planes_of(values: np.ndarray, masks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every plane along every axis: which of them are axial is the package's to find out."""
    return [
        (np.take(values, number, axis).astype(np.float32), np.take(masks, number, axis))
        for axis in range(3)
        for number in range(values.shape[axis])
    ]


def make_masks(shape: tuple[int, int, int]) -> np.ndarray:
    """Classes 0 to 8 (X, Y, Z), without any symmetry."""
    return np.random.default_rng(1).integers(0, 9, shape).astype(np.uint8)


def test_the_chaos_liver_comes_out_as_dicom_seg_on_its_own_slices(
    data_root: Path, tmp_path: Path, predict_with_oracle: Predict
) -> None:
    folder = data_root / "chaos_ct_dicom"
    files = sorted((folder / "DICOM_anon").glob("*.dcm"))
    planes, truth = [], {}
    for file in files:
        data = pydicom.dcmread(file)
        with Image.open(folder / "Ground" / f"liver_GT_{int(file.name[1:5]):03d}.png") as image:
            liver = (np.asarray(image) > 0).astype(np.uint8) * LIVER
        truth[str(data.SOPInstanceUID)] = liver > 0
        planes.append((data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept), liver))
    (case,) = predict_with_oracle(folder / "DICOM_anon", planes, rtstruct=True)
    assert case["status"] == "done", case["error"]
    written = pydicom.dcmread(tmp_path / "out" / case["outputs"]["mask"])
    segments = {int(item.SegmentNumber): item.SegmentLabel for item in written.SegmentSequence}
    assert segments[LIVER] == "liver"
    seen = 0
    for pixels, group in zip(written.pixel_array, written.PerFrameFunctionalGroupsSequence, strict=True):
        assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == LIVER
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_array_equal(pixels.astype(bool), truth[uid])
        seen += int(pixels.sum())
    assert seen == sum(int(mask.sum()) for mask in truth.values())
    liver = case["classes"][LIVER - 1]
    data = pydicom.dcmread(files[0])
    area = float(data.PixelSpacing[0]) * float(data.PixelSpacing[1])
    gaps = np.diff(sorted(float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in files))
    assert liver["ml"] == pytest.approx(seen * area * gaps.mean() / 1000, rel=1e-3)
    assert 1000 < liver["ml"] < 2500  # a liver
    assert {file.name for file in (tmp_path / "out").glob("*.dcm")} == set(case["outputs"].values())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"orientation": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)},
        {"orientation": series.OBLIQUE, "spacing": (0.5, 1.9, 4.0)},
        {"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)},
        {"tilt": 0.6},
    ],
    ids=["axial", "turned", "oblique and anisotropic", "sagittal", "tilted gantry"],
)
def test_a_series_gets_each_mask_on_its_slice(
    tmp_path: Path, predict_with_oracle: Predict, settings: dict[str, Any]
) -> None:
    shape = (11, 9, 5)
    stored = series.make_volume(shape)
    masks = make_masks(shape)
    files = series.make_series(tmp_path / "in" / "scan", stored, **settings)
    (case,) = predict_with_oracle(tmp_path / "in", planes_of(stored.astype(np.float32) - 1000, masks))
    assert case["status"] == "done", case["error"]
    written = pydicom.dcmread(tmp_path / "out" / case["outputs"]["mask"])
    uids = {str(pydicom.dcmread(file).SOPInstanceUID): z for z, file in enumerate(files)}
    result = np.zeros(shape, np.uint8)
    for pixels, group in zip(written.pixel_array, written.PerFrameFunctionalGroupsSequence, strict=True):
        z = uids[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        result[:, :, z][pixels.T > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(result, masks)


@pytest.mark.parametrize("shape", [(11, 9, 5), (11, 9, 1)])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "IAL"])
def test_a_nifti_volume_gets_each_mask_where_it_belongs(
    tmp_path: Path, predict_with_oracle: Predict, shape: tuple[int, int, int], codes: str
) -> None:
    generator = np.random.default_rng(0)
    values, masks = generator.integers(-200, 400, shape).astype(np.int16), make_masks(shape)
    target = nibabel.orientations.axcodes2ornt(codes)
    image = nibabel.Nifti1Image(values, np.diag([0.8, 1.1, 3.0, 1])).as_reoriented(target)
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / "scan.nii.gz")
    (case,) = predict_with_oracle(tmp_path / "in", planes_of(values, masks))
    written = nibabel.load(tmp_path / "out" / case["outputs"]["mask"])
    expected = nibabel.Nifti1Image(masks, np.diag([0.8, 1.1, 3.0, 1])).as_reoriented(target)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-5)


def test_an_enhanced_multi_frame_ct_gets_each_mask_on_its_frame(tmp_path: Path, predict_with_oracle: Predict) -> None:
    shape, order = (11, 9, 4), [2, 0, 3, 1]
    stored, masks = series.make_volume(shape), make_masks(shape)
    (tmp_path / "in").mkdir()
    series.make_enhanced(tmp_path / "in" / "ct.dcm", stored, order)
    planes = planes_of(stored.astype(np.float32) - 1000, masks)
    (case,) = predict_with_oracle(tmp_path / "in" / "ct.dcm", planes)
    assert case["status"] == "done", case["error"]
    written = pydicom.dcmread(tmp_path / "out" / case["outputs"]["mask"])
    result = np.zeros(shape, np.uint8)
    for pixels, group in zip(written.pixel_array, written.PerFrameFunctionalGroupsSequence, strict=True):
        frame = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        z = order[int(frame) - 1]
        result[:, :, z][pixels.T > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(result, masks)


def test_mixed_series_are_cases_and_an_mr_is_refused(tmp_path: Path, predict_with_oracle: Predict) -> None:
    stored, masks = series.make_volume((11, 9, 3)), make_masks((11, 9, 3))
    series.make_series(tmp_path / "in" / "a", stored, SeriesNumber=1)
    other = series.make_series(tmp_path / "b", stored, SeriesNumber=2, SeriesInstanceUID="1.2.3.9", Modality="MR")
    for file in other:
        Path(file).rename(tmp_path / "in" / "a" / f"mr_{Path(file).name}")
    cases = predict_with_oracle(tmp_path / "in", planes_of(stored.astype(np.float32) - 1000, masks))
    assert {case["id"]: case["status"] for case in cases} == {"a_series1": "done", "a_series2": "failed"}
    assert "a series of modality MR; expected CT" in next(case["error"] for case in cases if case["error"])
