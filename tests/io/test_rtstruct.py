"""RT structure sets: contours that give the mask back, at the right place in the patient."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hidiff_monai.io import DicomVolume, find_series, read_series, write_rtstruct
from hidiff_monai.io.rtstruct import trace

SPEC = importlib.util.spec_from_file_location("series", Path(__file__).with_name("series.py"))
assert SPEC is not None and SPEC.loader is not None
series = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(series)

NAMES = ["liver", "left kidney", "something unheard of"]


def fill(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels (rows, columns) whose centres lie in a polygon, by the number of edges to their right."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    filled = np.zeros(shape, bool)
    for polygon in polygons:
        is_inside = np.zeros(shape, bool)
        for (row, column), (next_row, next_column) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if row != next_row:
                crossing = (next_column - column) * (rows - row) / (next_row - row) + column
                is_inside ^= ((row > rows) != (next_row > rows)) & (columns < crossing)
        filled |= is_inside
    return filled


def read_back(path: Path, volume: DicomVolume, number: int) -> np.ndarray:
    """The mask (X, Y, Z) of an ROI, from its points in the patient."""
    data = pydicom.dcmread(path)
    to_voxel = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)
    mask = np.zeros(volume.array.shape, bool)
    (roi,) = [item for item in data.ROIContourSequence if item.ReferencedROINumber == number]
    for contour in roi.get("ContourSequence", []):
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        z = round(voxels[0, 2])
        np.testing.assert_allclose(voxels[:, 2], z, atol=1e-3)
        file = pydicom.dcmread(volume.files[z], stop_before_pixels=True)
        assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == file.SOPInstanceUID
        assert contour.ContourImageSequence[0].get("ReferencedFrameNumber", 1) == volume.frames[z] + 1
        halves = np.round(2 * voxels[:, 1::-1]) / 2
        np.testing.assert_allclose(voxels[:, 1::-1], halves, atol=1e-3)
        mask[:, :, z] |= fill([halves], mask.shape[1::-1]).T
    return mask


def test_a_pixel_has_four_corners() -> None:
    (polygon,) = trace(np.array([[True]]))
    assert sorted(map(tuple, polygon)) == [(-0.5, 0.0), (0.0, -0.5), (0.0, 0.5), (0.5, 0.0)]


def test_a_hole_is_joined_by_a_keyhole() -> None:
    mask = np.ones((5, 7), bool)
    mask[2, 2] = False
    (polygon,) = trace(mask)
    vertices = list(map(tuple, polygon))
    assert vertices.count((2.0, 2.5)) == vertices.count((2.0, 6.5)) == 2
    assert (fill([polygon], mask.shape) == mask).all()


def test_an_island_in_a_hole_has_a_contour_of_its_own() -> None:
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    assert len(trace(mask)) == 2
    assert (fill(trace(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("density", [0.3, 0.5, 0.8])
def test_contours_of_noise_give_the_noise_back(density: float) -> None:
    for mask in np.random.default_rng(0).random((30, 12, 15)) < density:
        assert (fill(trace(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("kind", ["oblique", "tilted", "one slice", "enhanced"])
def test_the_mask_comes_back_from_points_in_the_patient(tmp_path: Path, kind: str) -> None:
    volume = read_series(make(tmp_path, kind))
    mask = np.random.default_rng(1).integers(0, 3, volume.array.shape).astype(np.uint8)
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, NAMES, "0.1")
    for number in (1, 2, 3):
        assert (read_back(tmp_path / "rt.dcm", volume, number) == (mask == number)).all()


def make(folder: Path, kind: str) -> list[str]:
    """The files of a made-up series."""
    stored = series.make_volume((6, 5, 1 if kind == "one slice" else 4))
    if kind == "enhanced":
        return [series.make_enhanced(folder / "ct" / "e.dcm", stored, [2, 0, 3, 1])]
    return series.make_series(folder / "ct", stored, orientation=series.OBLIQUE, tilt=0.6 * (kind == "tilted"))


def test_a_contour_of_more_than_64_kib_can_be_read_again(tmp_path: Path) -> None:
    """A comb with a tooth a pixel: explicit value representations have 16 bits for a contour's length."""
    volume = read_series(series.make_series(tmp_path / "ct", np.zeros((96, 96, 2), np.int16)))
    mask = np.zeros(volume.array.shape, np.uint8)
    mask[::2] = 1
    mask[:, 40] = 1
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, ["lung"], "0.1")
    contours = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0].ContourSequence
    assert {contour["ContourData"].VR for contour in contours} == {"DS"}
    assert max(sum(len(str(value)) + 1 for value in contour.ContourData) for contour in contours) > 2**16
    np.testing.assert_array_equal(read_back(tmp_path / "rt.dcm", volume, 1), mask > 0)


def test_names_codes_colours_and_references(tmp_path: Path) -> None:
    volume = read_series(make(tmp_path, "oblique"))
    mask = np.zeros(volume.array.shape, np.uint8)
    mask[2:4, 2, 1] = 1
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, NAMES, "0.1")
    data = pydicom.dcmread(tmp_path / "rt.dcm")
    assert [roi.ROIName for roi in data.StructureSetROISequence] == NAMES
    assert [roi.ROIGenerationAlgorithm for roi in data.StructureSetROISequence] == ["AUTOMATIC"] * 3
    assert [list(map(int, roi.ROIDisplayColor)) for roi in data.ROIContourSequence][0] == [221, 130, 101]
    assert ["ContourSequence" in roi for roi in data.ROIContourSequence] == [True, False, False]
    coded = [item.RTROIIdentificationCodeSequence[0] for item in data.RTROIObservationsSequence]
    assert [code.CodingSchemeDesignator for code in coded] == ["SCT", "SCT", "99HIDIFF"]
    (frame,) = data.ReferencedFrameOfReferenceSequence
    (referenced,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in volume.files]
    assert [image.ReferencedSOPInstanceUID for image in referenced.ContourImageSequence] == uids
    assert (frame.FrameOfReferenceUID, referenced.SeriesInstanceUID) == ("1.2.3.3", "1.2.3.2")
    assert (data.StudyInstanceUID, data.PatientID, data.PatientName) == ("1.2.3.1", "ID-4711", "Doe^Jane")


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    volume = read_series(make(tmp_path, "oblique"))
    for mask in (np.zeros((6, 5, 3), np.uint8), np.full(volume.array.shape, 4, np.uint8)):
        with pytest.raises(ValueError, match=r"rt.dcm: not written, .* expected \(6, 5, 4\) and 0 to 3: put it back"):
            write_rtstruct(tmp_path / "rt.dcm", mask, volume, NAMES, "0.1")
    assert not (tmp_path / "rt.dcm").exists()


@pytest.mark.parametrize("fullness", [0.0, 0.6])
def test_dciodvfy_finds_no_error(tmp_path: Path, fullness: float) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        assert not os.environ.get("CI"), "dciodvfy is missing; expected it in CI: apt-get install dicom3tools"
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    for kind in ("tilted", "enhanced"):
        volume = read_series(make(tmp_path / kind, kind))
        mask = (np.random.default_rng(1).random(volume.array.shape) < fullness).astype(np.uint8)
        write_rtstruct(tmp_path / kind / "rt.dcm", mask, volume, NAMES, "0.1")
        result = subprocess.run([validator, str(tmp_path / kind / "rt.dcm")], capture_output=True, text=True)
        assert [line for line in (result.stdout + result.stderr).splitlines() if "Error" in line] == []
        assert "RTStructureSet" in result.stderr


def test_the_chaos_liver_comes_back_from_its_contours(data_root: Path, tmp_path: Path) -> None:
    from PIL import Image

    folder = data_root / "chaos_ct_dicom"
    volume = read_series(find_series(folder, progress=False)[0].files)
    mask = np.zeros(volume.array.shape, np.uint8)
    for z in (20, 45):
        number = int(Path(volume.files[z]).name[1:5])
        mask[:, :, z] = np.asarray(Image.open(folder / "Ground" / f"liver_GT_{number:03d}.png")).T > 0
    assert mask[:, :, 45].any()
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, ["liver"], "0.1")
    assert (read_back(tmp_path / "rt.dcm", volume, 1) == (mask == 1)).all()
