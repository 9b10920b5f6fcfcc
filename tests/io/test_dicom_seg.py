"""DICOM-SEG and parametric maps: written on the frames of their series, read back voxel by voxel."""

import importlib.util
import logging
import math
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import itk
import numpy as np
import pydicom
import pytest
from PIL import Image

from hidiff_monai.io import (
    DicomVolume,
    find_series,
    read_segmentation,
    read_segments,
    read_series,
    write_segmentation,
    write_uncertainty,
)

highdicom = pytest.importorskip("highdicom", reason="writes DICOM-SEG; needs pydicom 3")
SPEC = importlib.util.spec_from_file_location("series", Path(__file__).with_name("series.py"))
assert SPEC is not None and SPEC.loader is not None
series = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(series)

NAMES = ["liver", "left kidney", "something unheard of"]
KINDS = ["axial", "oblique", "tilted", "one slice", "enhanced"]


def make(folder: Path, kind: str) -> DicomVolume:
    """A made-up series of 8 columns and 5 rows."""
    stored = series.make_volume((8, 5, 1 if kind == "one slice" else 4))
    if kind == "enhanced":
        return read_series([series.make_enhanced(folder / "ct" / "e.dcm", stored, [2, 0, 3, 1])])
    orientation = series.AXIAL if kind == "axial" else series.OBLIQUE
    return read_series(
        series.make_series(folder / "ct", stored, orientation=orientation, tilt=0.6 * (kind == "tilted"))
    )


def write(path: Path, mask: np.ndarray, volume: DicomVolume, names: list[str] = NAMES) -> Path:
    """Writes with a neutral algorithm."""
    write_segmentation(path, mask, volume, names, "hidiff_synapse", "0.1")
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", ["full", "sparse", "empty"])
def test_a_mask_comes_back(tmp_path: Path, kind: str, content: str) -> None:
    volume = make(tmp_path, kind)
    mask = np.random.default_rng(2).integers(0, 4, volume.array.shape).astype(np.uint8)
    if content != "full":
        mask[:, :, 1:] = 0
        mask[mask == 2] = 0
    if content == "empty":
        mask[:] = 0
    path = write(tmp_path / "seg.dcm", mask, volume)
    assert (read_segmentation(path, volume) == mask).all()
    segments, labels = read_segments(path, volume)
    assert labels == NAMES
    assert (segments == np.stack([mask == number for number in (1, 2, 3)])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_refers_to_the_slice_it_lies_on(tmp_path: Path, kind: str) -> None:
    volume = make(tmp_path, kind)
    mask = np.random.default_rng(2).integers(0, 3, volume.array.shape).astype(np.uint8)
    data = pydicom.dcmread(write(tmp_path / "seg.dcm", mask, volume))
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    shown = {}
    for pixels, group in zip(data.pixel_array.reshape(-1, 5, 8), data.PerFrameFunctionalGroupsSequence, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        at = group.PlanePositionSequence[0].ImagePositionPatient
        (z,) = np.flatnonzero(np.isclose([(to_lps @ [0, 0, z, 1])[:3] for z in range(mask.shape[2])], at).all(axis=1))
        file = pydicom.dcmread(volume.files[z], stop_before_pixels=True)
        assert image.ReferencedSOPInstanceUID == file.SOPInstanceUID
        assert image.get("ReferencedFrameNumber", 1) == volume.frames[z] + 1
        shown[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber), int(z)] = pixels.T
    for (number, z), pixels in shown.items():
        assert (pixels == (mask[:, :, z] == number)).all()
    assert len(shown) == 2 * mask.shape[2]
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(edge) for edge in measures.PixelSpacing] == pytest.approx([0.9, 0.7])
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)


def test_segments_are_named_in_codes(tmp_path: Path) -> None:
    volume = make(tmp_path, "axial")
    data = pydicom.dcmread(write(tmp_path / "seg.dcm", np.zeros(volume.array.shape, np.uint8), volume))
    assert (data.SegmentationType, data.Modality, data.SegmentsOverlap) == ("BINARY", "SEG", "NO")
    liver, kidney, unknown = data.SegmentSequence
    assert [segment.SegmentLabel for segment in data.SegmentSequence] == NAMES
    assert {segment.SegmentAlgorithmType for segment in data.SegmentSequence} == {"AUTOMATIC"}
    assert liver.SegmentAlgorithmName == "hidiff_synapse"
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    assert unknown.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99HIDIFF"
    red, green, blue = highdicom.color.CIELabColor.from_dicom_value(liver.RecommendedDisplayCIELabValue).to_rgb()
    np.testing.assert_allclose([red, green, blue], [221, 130, 101], atol=1)


def test_uids_are_fresh_and_references_whole(tmp_path: Path) -> None:
    volume = make(tmp_path, "axial")
    mask = np.ones(volume.array.shape, np.uint8)
    first, second = (pydicom.dcmread(write(tmp_path / f"{name}.dcm", mask, volume)) for name in "ab")
    assert len({first.SOPInstanceUID, second.SOPInstanceUID, first.SeriesInstanceUID, second.SeriesInstanceUID}) == 4
    assert (first.StudyInstanceUID, first.FrameOfReferenceUID) == ("1.2.3.1", "1.2.3.3")
    (referenced,) = first.ReferencedSeriesSequence
    uids = {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in volume.files}
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == uids
    assert (referenced.SeriesInstanceUID, first.SeriesDescription) == ("1.2.3.2", "Segmentation")


def test_of_the_patient_only_what_the_standard_demands_goes_along(tmp_path: Path) -> None:
    private = {
        "PatientAddress": "Secret Lane",
        "PatientComments": "Secret comment",
        "OtherPatientIDs": "Secret id",
        "PatientAge": "074Y",
        "PatientWeight": 81,
        "EthnicGroup": "Secret group",
        "InstitutionName": "Secret clinic",
        "OperatorsName": "Secret^Operator",
        "StudyDescription": "Secret study",
        "SeriesDescription": "Secret series",
    }
    volume = read_series(series.make_series(tmp_path, series.make_volume(), **private))
    mask = np.ones(volume.array.shape, np.uint8)
    write(tmp_path / "out" / "seg.dcm", mask, volume)
    write_uncertainty(tmp_path / "out" / "map.dcm", mask * 0.1, volume, "hidiff_synapse", "0.1")
    for name in ("seg.dcm", "map.dcm"):
        data = pydicom.dcmread(tmp_path / "out" / name, stop_before_pixels=True)
        assert "Secret" not in str(data)
        assert not {"PatientAge", "PatientWeight"} & set(data.dir())
        assert (data.PatientName, data.PatientID, data.PatientBirthDate) == ("Doe^Jane", "ID-4711", "19500102")


def test_names_in_any_alphabet_survive(tmp_path: Path) -> None:
    latin = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}
    volume = read_series(series.make_series(tmp_path / "ct", series.make_volume(), **latin))
    data = pydicom.dcmread(write(tmp_path / "seg.dcm", np.ones(volume.array.shape, np.uint8), volume, ["松果体"]))
    assert data.PatientName == "Müller^Jörg"
    assert data.SegmentSequence[0].SegmentLabel == "松果体"


def test_a_header_the_standard_does_not_allow_is_no_obstacle_and_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    missing = dict.fromkeys(["StudyTime", "AccessionNumber", "PatientSex", "FrameOfReferenceUID", "SliceThickness"])
    files = series.make_series(tmp_path / "ct", series.make_volume(), **missing)
    for file in files:
        data = pydicom.dcmread(file)
        for keyword, value in (("PatientBirthDate", b"31.12.1950"), ("StudyDate", b"Zweistein ")):
            tag = pydicom.tag.Tag(keyword)
            data._dict[tag] = pydicom.dataelem.RawDataElement(tag, "DA", len(value), value, 0, False, True)
        data.PatientName = "Zweistein"
        data.save_as(file)
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = read_series(files)
        mask = np.ones(volume.array.shape, np.uint8)
        assert (read_segmentation(write(tmp_path / "seg.dcm", mask, volume), volume) == mask).all()
    told = caplog.text + "".join(str(warning.message) for warning in caught)
    assert "Zweistein" not in told and "1950" not in told
    result = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (result.PatientBirthDate, result.StudyDate, result.StudyTime or "", result.PatientSex) == ("", "", "", "")
    write(tmp_path / "again.dcm", mask, volume)
    assert result.FrameOfReferenceUID == pydicom.dcmread(tmp_path / "again.dcm").FrameOfReferenceUID != ""


@pytest.mark.parametrize("kind", KINDS)
def test_uncertainty_comes_back_in_nats(tmp_path: Path, kind: str) -> None:
    volume = make(tmp_path, kind)
    entropy = np.random.default_rng(3).random(volume.array.shape).astype(np.float32) * math.log(4)
    write_uncertainty(tmp_path / "map.dcm", entropy, volume, "hidiff_synapse", "0.1", num_classes=4)
    data = pydicom.dcmread(tmp_path / "map.dcm")
    frames = np.frombuffer(data.FloatPixelData, np.float32).reshape(-1, 5, 8)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    for pixels, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        at = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        z = int(np.linalg.norm([(to_lps @ [0, 0, z, 1])[:3] - at for z in range(entropy.shape[2])], axis=1).argmin())
        assert (entropy[:, :, z] == pixels.T).all()
    groups = [data.SharedFunctionalGroupsSequence[0], data.PerFrameFunctionalGroupsSequence[0]]
    (mapping,) = next(group for group in groups if "RealWorldValueMappingSequence" in group)[
        "RealWorldValueMappingSequence"
    ].value
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == pytest.approx(math.log(4))
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert data.SeriesDescription == "Uncertainty"


def test_results_are_no_series_to_segment(tmp_path: Path) -> None:
    volume = make(tmp_path, "axial")
    mask = np.ones(volume.array.shape, np.uint8)
    write(tmp_path / "ct" / "seg.dcm", mask, volume)
    write_uncertainty(tmp_path / "ct" / "map.dcm", mask * 0.1, volume, "a", "0.1")
    (found,) = find_series(tmp_path, progress=False)
    assert sorted(found.files) == sorted(volume.files)


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    volume = make(tmp_path, "axial")
    path = tmp_path / "seg.dcm"
    with pytest.raises(ValueError, match=r"seg.dcm: not written, shape \(8, 5, 3\).*; expected \(8, 5, 4\): put"):
        write(path, np.zeros((8, 5, 3), np.uint8), volume)
    with pytest.raises(ValueError, match="holds classes 0 to 4; expected 0 to 3, as many as there are names"):
        write(path, np.arange(160, dtype=np.uint8).reshape(8, 5, 4) % 5, volume)
    with pytest.raises(ValueError, match="the entropy holds NaN or infinity; expected nats"):
        write_uncertainty(path, np.full(volume.array.shape, np.nan), volume, "a", "0.1")
    Path(volume.files[2]).unlink()
    with pytest.raises(ValueError, match=f"{Path(volume.files[2]).name}: is truncated or no DICOM file"):
        write(path, np.ones(volume.array.shape, np.uint8), volume)
    assert [file.name for file in tmp_path.iterdir()] == ["ct"]


def test_a_segmentation_of_another_series_or_grid_is_refused(tmp_path: Path) -> None:
    volume = make(tmp_path / "a", "axial")
    path = write(tmp_path / "seg.dcm", np.ones(volume.array.shape, np.uint8), volume)
    stored = series.make_volume((8, 5, 4))
    other = {"FrameOfReferenceUID": "1.9.9", "SeriesInstanceUID": "1.9.8"}
    stranger = read_series(series.make_series(tmp_path / "b", stored, **other))
    with pytest.raises(ValueError, match="seg.dcm: neither lies in the space of .* nor refers to its series; expected"):
        read_segments(path, stranger)
    for number, place in enumerate(
        ({"spacing": (0.7, 0.9, 3.0)}, {"orientation": series.OBLIQUE}, {"origin": (-10, -20.3, 30)})
    ):
        moved = read_series(series.make_series(tmp_path / f"c{number}", stored, **place))
        with pytest.raises(
            ValueError, match="seg.dcm: has a frame on another grid than .*: resample it onto the series"
        ):
            read_segments(path, moved)
    larger = read_series(series.make_series(tmp_path / "d", series.make_volume((9, 5, 4))))
    with pytest.raises(ValueError, match="frames of 8 x 5 pixels; expected 9 x 5"):
        read_segments(path, larger)
    with pytest.raises(ValueError, match="is no DICOM segmentation; expected an object with segments"):
        read_segments(volume.files[0], volume)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="seg.dcm: is truncated or no DICOM file"):
        read_segments(path, volume)


def test_directions_that_differ_in_the_last_digit_are_one_stack(tmp_path: Path) -> None:
    files = series.make_series(tmp_path / "ct", series.make_volume(), orientation=series.OBLIQUE)
    data = pydicom.dcmread(files[2])
    data.ImageOrientationPatient = [0.80001, 0.59999, 0.00001, -0.36, 0.48, 0.8]
    data.save_as(files[2])
    volume = read_series(files)
    mask = np.random.default_rng(2).integers(0, 3, volume.array.shape).astype(np.uint8)
    assert (read_segmentation(write(tmp_path / "seg.dcm", mask, volume), volume) == mask).all()


def test_enhanced_frames_may_each_carry_the_geometry(tmp_path: Path) -> None:
    file = series.make_enhanced(tmp_path / "ct" / "e.dcm", series.make_volume(), [2, 0, 3, 1])
    data = pydicom.dcmread(file)
    for group in data.PerFrameFunctionalGroupsSequence:
        group.update(data.SharedFunctionalGroupsSequence[0])
    data.SharedFunctionalGroupsSequence = [pydicom.Dataset()]
    data.save_as(file)
    volume = read_series([file])
    mask = np.random.default_rng(2).integers(0, 3, volume.array.shape).astype(np.uint8)
    assert (read_segmentation(write(tmp_path / "seg.dcm", mask, volume), volume) == mask).all()


def test_enhanced_files_of_a_slice_each_are_told(tmp_path: Path) -> None:
    stored = series.make_volume((8, 5, 3))
    volume = read_series([series.make_enhanced(tmp_path / "ct" / f"{z}.dcm", stored, [z]) for z in (2, 0, 1)])
    with pytest.raises(ValueError, match="the series has 3 enhanced files; expected one, or .* convert the series"):
        write(tmp_path / "seg.dcm", np.zeros(volume.array.shape, np.uint8), volume)


def test_a_frame_without_a_place_goes_where_it_refers_to(tmp_path: Path) -> None:
    volume = make(tmp_path, "oblique")
    mask = np.random.default_rng(2).integers(0, 3, volume.array.shape).astype(np.uint8)
    path = write(tmp_path / "seg.dcm", mask, volume)
    data = pydicom.dcmread(path)
    for group in data.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    data.save_as(path)
    assert (read_segmentation(path, volume) == mask).all()


def test_without_highdicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = make(tmp_path, "axial")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r'pip install "hidiff-monai\[dicom\]"'):
        write(tmp_path / "seg.dcm", np.ones(volume.array.shape, np.uint8), volume)


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: str) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        assert not os.environ.get("CI"), "dciodvfy is missing; expected it in CI: apt-get install dicom3tools"
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    volume = make(tmp_path, kind)
    mask = np.random.default_rng(2).integers(0, 3, volume.array.shape).astype(np.uint8)
    files = [write(tmp_path / "seg.dcm", mask, volume), write(tmp_path / "empty.dcm", mask * 0, volume)]
    write_uncertainty(tmp_path / "map.dcm", mask * np.float32(0.1), volume, "hidiff_synapse", "0.1")
    for file in [*files, tmp_path / "map.dcm"]:
        result = subprocess.run([validator, str(file)], capture_output=True, text=True)
        assert [line for line in (result.stdout + result.stderr).splitlines() if "Error" in line] == []
        assert "ParametricMap" in result.stderr or "Segmentation" in result.stderr


@pytest.fixture(scope="module")
def chaos(data_root: Path) -> tuple[DicomVolume, np.ndarray]:
    """The CHAOS series and its liver, PNG by PNG: the n-th PNG belongs to the n-th file, from the head down."""
    folder = data_root / "chaos_ct_dicom"
    volume = read_series(find_series(folder, progress=False)[0].files)
    mask = [np.asarray(Image.open(ground_truth(folder, file))).T > 0 for file in volume.files]
    return volume, np.stack(mask, axis=-1).astype(np.uint8)


def ground_truth(folder: Path, file: str) -> Path:
    """The PNG of a slice."""
    return folder / "Ground" / f"liver_GT_{int(Path(file).name[1:5]):03d}.png"


def test_the_chaos_liver_is_where_the_png_says(
    data_root: Path, tmp_path: Path, chaos: tuple[DicomVolume, np.ndarray]
) -> None:
    volume, mask = chaos
    inside = volume.array[mask == 1]
    elsewhere = [mask[::-1], mask[:, ::-1], mask[:, :, ::-1], np.roll(mask, 1, axis=2), np.roll(mask, -1, axis=2)]
    assert np.median(inside) == 143 and inside.std() < 35  # HU: a liver with contrast, and nothing else in it
    assert min(volume.array[other == 1].std() for other in elsewhere) > 55
    path = write(tmp_path / "seg.dcm", mask, volume, ["liver"])
    assert (read_segmentation(path, volume) == mask).all()
    data = pydicom.dcmread(path)
    files = {pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID: file for file in volume.files}
    frames = data.pixel_array
    seen = set()
    for pixels, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        file = files[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        seen.add(file)
        assert (pixels == (np.asarray(Image.open(ground_truth(data_root / "chaos_ct_dicom", file))) > 0)).all()
    assert seen == {file for z, file in enumerate(volume.files) if mask[:, :, z].any()}


def test_highdicom_reads_the_chaos_liver_back(tmp_path: Path, chaos: tuple[DicomVolume, np.ndarray]) -> None:
    volume, mask = chaos
    path = write(tmp_path / "seg.dcm", mask, volume, ["liver"])
    uids = [str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for file in volume.files]
    segmentation = highdicom.seg.segread(path)
    pixels = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert (pixels.transpose(2, 1, 0) == mask).all()


def test_other_softwares_segments_read_as_their_nrrd(data_root: Path) -> None:
    folder = data_root / "dicom_seg_reference"
    volume = read_series(find_series(folder / "ct", progress=False)[0].files)
    liver = itk.array_from_image(itk.imread(str(folder / "liver_seg.nrrd"))).transpose(2, 1, 0)
    assert (read_segmentation(folder / "liver.dcm", volume) == liver).all()
    segments, labels = read_segments(folder / "partial_overlaps.dcm", volume)
    assert labels == ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]
    for file in ("partial_overlaps-1.nrrd", "partial_overlaps-2.nrrd", "partial_overlaps-3.nrrd"):
        classes = itk.array_from_image(itk.imread(str(folder / file))).transpose(2, 1, 0)
        for number in set(np.unique(classes)) - {0}:
            assert (segments[number - 1] == (classes == number)).all()
    with pytest.raises(ValueError, match="partial_overlaps.dcm: segments overlap; expected one class a voxel"):
        read_segmentation(folder / "partial_overlaps.dcm", volume)
