"""DICOM series: what is found, what is read, and by what name the rest is refused."""

import importlib.util
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from hidiff_monai.io import find_series, read_series

SPEC = importlib.util.spec_from_file_location("series", Path(__file__).with_name("series.py"))
assert SPEC is not None and SPEC.loader is not None
series = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(series)

PYDICOM_FILES = Path(pydicom.data.__file__).parent / "test_files"
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@pytest.mark.parametrize("orientation", [series.AXIAL, FLIPPED, SAGITTAL, series.OBLIQUE])
def test_values_and_affine_are_those_the_series_was_made_with(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    stored = series.make_volume()
    files = series.make_series(tmp_path, stored, orientation=orientation)
    volume = read_series(sorted(files))
    assert (volume.array == stored.astype(int) - 1000).all()
    assert volume.array.dtype == np.int16
    expected = series.to_ras(series.lps_affine((0.7, 0.9, 2.5), orientation, (-10.0, -20.0, 30.0), 0.0))
    np.testing.assert_allclose(volume.affine, expected, atol=1e-5)
    assert (volume.files, volume.frames, volume.modality) == (tuple(files), (0,) * 4, "CT")


def test_an_oblique_series_lies_where_itk_puts_it(tmp_path: Path) -> None:
    stored = series.make_volume()
    series.make_series(tmp_path, stored, orientation=series.OBLIQUE)
    volume = read_series(find_series(tmp_path, progress=False)[0].files)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    for index in ((0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3), (3, 2, 1)):
        point = volume.affine @ [*index, 1]
        voxel = image.TransformPhysicalPointToIndex((-point[0], -point[1], point[2]))
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), point[:3] * [-1, -1, 1], atol=1e-4)
        assert image.GetPixel(voxel) == volume.array[index]


def test_a_tilted_gantry_shears_the_affine_and_keeps_the_voxels(tmp_path: Path) -> None:
    stored = series.make_volume()
    volume = read_series(series.make_series(tmp_path, stored, tilt=0.6))
    np.testing.assert_allclose(volume.affine[:3, 2], [0, -0.6, 2.5], atol=1e-6)
    assert (volume.array == stored.astype(int) - 1000).all()


@pytest.mark.parametrize(
    ("attributes", "thickness"),
    [({"SpacingBetweenSlices": 4.5}, 4.5), ({}, 2.5), ({"SliceThickness": None}, 1.0), ({"SliceThickness": 0}, 1.0)],
)
def test_one_slice_is_as_thick_as_its_header_says(tmp_path: Path, attributes: dict, thickness: float) -> None:
    volume = read_series(series.make_series(tmp_path, series.make_volume((6, 5, 1)), **attributes))
    assert volume.array.shape == (6, 5, 1)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, thickness])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_byte_order_reads_the_same(tmp_path: Path, syntax: str) -> None:
    stored = series.make_volume()
    volume = read_series(series.make_series(tmp_path, stored, syntax=syntax))
    assert (volume.array == stored.astype(int) - 1000).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_lossless_compression_loses_nothing(tmp_path: Path, syntax: str) -> None:
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls")
    stored = series.make_volume()
    volume = read_series(series.make_series(tmp_path, stored, syntax=syntax, encode=True))
    assert (volume.array == stored.astype(int) - 1000).all()


@pytest.mark.parametrize("name", ["bigendian", "implicit", "jp2klossless", "RLE"])
def test_the_same_image_in_each_encoding(name: str) -> None:
    expected = pydicom.dcmread(PYDICOM_FILES / "MR_small.dcm").pixel_array.T
    volume = read_series([str(PYDICOM_FILES / f"MR_small_{name}.dcm")])
    assert (volume.array[..., 0] == expected).all()
    assert volume.modality == "MR"


def test_a_syntax_without_decoder_names_itself_and_the_package(tmp_path: Path) -> None:
    data = series.header()
    series.set_pixels(data, np.ones((4, 4), np.uint16))
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].is_undefined_length = True
    series.save(data, tmp_path / "a.dcm")
    with pytest.raises(
        ValueError, match=r"a.dcm: is compressed as JPEG Lossless.*; expected a decoder.*pylibjpeg-libj"
    ):
        read_series([str(tmp_path / "a.dcm")])


def test_rescaled_values_are_exact_or_float(tmp_path: Path) -> None:
    stored = series.make_volume()
    fractional = read_series(series.make_series(tmp_path / "a", stored, RescaleSlope=0.25, RescaleIntercept=-3.5))
    assert fractional.array.dtype == np.float32
    np.testing.assert_array_equal(fractional.array, stored * 0.25 - 3.5)
    large = read_series(series.make_series(tmp_path / "b", stored + 40000, RescaleIntercept=0))
    assert large.array.dtype == np.float32
    np.testing.assert_array_equal(large.array, stored.astype(int) + 40000)
    plain = read_series(series.make_series(tmp_path / "c", stored, RescaleSlope=None, RescaleIntercept=None))
    np.testing.assert_array_equal(plain.array, stored)
    empty = series.make_series(tmp_path / "d", stored, RescaleSlope="")
    with pytest.raises(ValueError, match=r"im\d\.dcm: RescaleSlope is empty or no number; expected a number, .*export"):
        read_series(empty)


def test_a_modality_lut_is_applied(tmp_path: Path) -> None:
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [4, 0, 16], "US"
    lut.LUTData = np.array([5, 70, 300, 9000], "<u2").tobytes()
    stored = np.arange(4, dtype=np.uint16).reshape(2, 2, 1)
    attributes = {"ModalityLUTSequence": [lut], "RescaleSlope": None, "RescaleIntercept": None}
    volume = read_series(series.make_series(tmp_path, stored, **attributes))
    assert volume.array[..., 0].tolist() == [[5, 70], [300, 9000]]


def test_enhanced_frames_come_in_the_order_of_their_places(tmp_path: Path) -> None:
    stored, order, slopes = series.make_volume(), [2, 0, 3, 1], [1.0, 2.0, 1.0, 3.0]
    file = series.make_enhanced(tmp_path / "enhanced.dcm", stored, order, slopes)
    found = find_series(tmp_path, progress=False)
    assert [(one.id, one.files, one.modality) for one in found] == [(tmp_path.name, (file,), "CT")]
    volume = read_series(found[0].files)
    assert volume.frames == (1, 3, 0, 2)
    by_slice = np.array([2.0, 3.0, 1.0, 1.0])
    np.testing.assert_array_equal(volume.array, stored * by_slice - 1000)
    expected = series.to_ras(series.lps_affine((0.7, 0.9, 2.5), series.OBLIQUE, (-10.0, -20.0, 30.0), 0.0))
    np.testing.assert_allclose(volume.affine, expected, atol=1e-5)


def test_frames_at_one_place_are_refused_by_number(tmp_path: Path) -> None:
    file = series.make_enhanced(tmp_path / "perfusion.dcm", series.make_volume(), [0, 1, 1])
    with pytest.raises(
        ValueError, match=r"perfusion.dcm \(frame 3\): lies where .*perfusion.dcm \(frame 2\) does; exp"
    ):
        read_series([file])


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path: Path) -> None:
    for tilt in (0.0, 0.6):
        files = series.make_series(tmp_path / str(tilt), series.make_volume((6, 5, 6)), tilt=tilt)
        del files[2]
        before, after = Path(files[1]).name, Path(files[2]).name
        with pytest.raises(
            ValueError, match=rf"{after}: 5.000 mm beyond .*{before}, a slice is missing between .*; expected 2.500 mm"
        ):
            read_series(files)


def test_spacing_may_waver_by_one_percent(tmp_path: Path) -> None:
    files = series.make_series(tmp_path, series.make_volume())
    for shift, is_refused in ((0.02, False), (0.2, True)):
        data = pydicom.dcmread(files[1])
        data.ImagePositionPatient = [-10, -20 + shift, 32.5]
        data.save_as(files[1])
        if is_refused:
            with pytest.raises(ValueError, match="a slice is missing between them or one is shifted"):
                read_series(files)
        else:
            assert read_series(files).array.shape == (6, 5, 4)


def test_two_slices_at_one_place_are_both_named(tmp_path: Path) -> None:
    files = series.make_series(tmp_path, series.make_volume())
    shutil.copy(files[1], tmp_path / "copy.dcm")
    with pytest.raises(ValueError) as refusal:
        read_series([*files, str(tmp_path / "copy.dcm")])
    assert all(name in str(refusal.value) for name in (files[1], "copy.dcm", "expected one slice at a place"))


@pytest.mark.parametrize(
    ("attributes", "shape", "found"),
    [
        ({"orientation": SAGITTAL}, (6, 5, 1), "orientation"),
        ({}, (7, 5, 1), "size"),
        ({"spacing": (0.8, 0.9, 2.5)}, (6, 5, 1), "pixel spacing"),
        ({"Modality": "MR"}, (6, 5, 1), "modality"),
        ({"SeriesInstanceUID": "1.2.3.99"}, (6, 5, 1), "series"),
    ],
)
def test_a_slice_that_is_not_of_the_stack_is_named(tmp_path: Path, attributes: dict, shape: tuple, found: str) -> None:
    files = series.make_series(tmp_path, series.make_volume())
    stranger = series.make_series(tmp_path / "x", series.make_volume(shape), origin=(-10, -20, 90), **attributes)
    with pytest.raises(
        ValueError, match=rf"x/im0.dcm: its {found} is not that of .*; expected slices of one stack: mov"
    ):
        read_series([*files, *stranger])


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_without_geometry_there_is_no_volume(tmp_path: Path, tag: str) -> None:
    (file,) = series.make_series(tmp_path, series.make_volume((6, 5, 1)))
    data = pydicom.dcmread(file)
    for value in (None, [0] * len(data[tag].value)):
        data[tag].value = value
        data.save_as(file)
        if value is None or tag != "ImagePositionPatient":
            with pytest.raises(ValueError, match="im0.dcm: no usable geometry .*; expected ImagePositionPatient"):
                read_series([file])


def test_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="SC_rgb_rle.dcm: is a colour image; expected grey values"):
        read_series([str(PYDICOM_FILES / "SC_rgb_rle.dcm")])


def test_nan_is_refused(tmp_path: Path) -> None:
    (file,) = series.make_series(tmp_path, series.make_volume((6, 5, 1)))
    data = pydicom.dcmread(file)
    del data.PixelData
    data.BitsAllocated = 32
    data.FloatPixelData = np.full((5, 6), np.nan, np.float32).tobytes()
    data.save_as(file)
    with pytest.raises(ValueError, match="im0.dcm: holds NaN or infinity; expected finite values"):
        read_series([file])


@pytest.mark.parametrize("keep", [0, 100, 400, 900, -4])
def test_a_truncated_slice_stays_in_its_series_which_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    files = series.make_series(tmp_path / "ct", series.make_volume((20, 20, 3)))
    content = Path(files[2]).read_bytes()
    Path(files[2]).write_bytes(content[:keep])
    (found,) = find_series(tmp_path, progress=False)
    assert (found.id, set(found.files)) == ("ct", set(files))
    with pytest.raises(
        ValueError, match=rf"{Path(files[2]).name}: (is truncated or no DICOM file|holds no pixel data)"
    ):
        read_series(found.files)


def test_a_broken_file_among_several_series_is_a_case_of_its_own(tmp_path: Path) -> None:
    for number in (2, 10):
        series.make_series(
            tmp_path, series.make_volume((6, 5, 1)), SeriesInstanceUID=f"1.2.{number}", SeriesNumber=number
        )
        (tmp_path / "im0.dcm").rename(tmp_path / f"{number}.dcm")
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    found = find_series(tmp_path, progress=False)
    name = tmp_path.name
    assert [one.id for one in found] == [f"{name}_broken", f"{name}_series2", f"{name}_series10"]
    assert [Path(one.files[0]).name for one in found] == ["broken.dcm", "2.dcm", "10.dcm"]
    with pytest.raises(ValueError, match="broken.dcm: is truncated or no DICOM file"):
        read_series(found[0].files)


def test_ids_come_from_folders_and_unclear_numbers_are_counted(tmp_path: Path) -> None:
    one = series.make_volume((6, 5, 1))
    for folder, uid, number in (("p 2/ct", "1", 4), ("p 10/ct", "2", 4), ("p 10/ct/x", "3", 4), ("both", "4", 7)):
        series.make_series(tmp_path / folder, one, SeriesInstanceUID=f"1.9.{uid}", SeriesNumber=number)
    (tmp_path / "both" / "im0.dcm").rename(tmp_path / "both" / "a.dcm")
    series.make_series(tmp_path / "both", one, SeriesInstanceUID="1.9.5", SeriesNumber=7)
    ids = [found.id for found in find_series(tmp_path, progress=False)]
    assert ids == ["both_series1", "both_series2", "p_2_ct", "p_10_ct", "p_10_ct_x"]
    assert [found.id for found in find_series(tmp_path / "both" / "a.dcm", progress=False)] == ["a"]


def test_a_series_spread_over_folders_is_one(tmp_path: Path) -> None:
    files = series.make_series(tmp_path / "scan" / "a", series.make_volume())
    (tmp_path / "scan" / "b").mkdir()
    shutil.move(files[0], tmp_path / "scan" / "b" / "first.dcm")
    (found,) = find_series(tmp_path, progress=False)
    assert (found.id, len(found.files)) == ("scan", 4)


def test_ids_that_would_clash_are_told_apart(tmp_path: Path) -> None:
    for number, folder in enumerate(("a/b", "a_b", "A_B")):
        series.make_series(tmp_path / folder, series.make_volume((6, 5, 1)), SeriesInstanceUID=f"1.9.{number}")
    ids = [found.id for found in find_series(tmp_path, progress=False)]
    assert len({name.casefold() for name in ids}) == 3


def test_only_images_count_known_by_content_or_suffix(tmp_path: Path) -> None:
    (file,) = series.make_series(tmp_path / "ct", series.make_volume((6, 5, 1)))
    Path(file).rename(tmp_path / "ct" / "IM0001")
    (tmp_path / "ct" / "notes.txt").write_text("no DICOM at all")
    for hidden in (".im1.dcm", "DICOMDIR"):
        shutil.copy(tmp_path / "ct" / "IM0001", tmp_path / "ct" / hidden)
    for name in ("rtstruct", "rtplan", "test-SR", "liver_1frame", "rtdose_1frame"):
        shutil.copy(PYDICOM_FILES / f"{name}.dcm", tmp_path / "ct")
    (found,) = find_series(tmp_path, progress=False)
    assert (found.id, [Path(one).name for one in found.files]) == ("ct", ["IM0001"])


def test_where_there_is_nothing_the_mend_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none: there is no such file or folder; expected DICOM images: correct"):
        find_series(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    assert find_series(tmp_path) == []
    with pytest.raises(ValueError, match="a series of no files"):
        read_series([])


SECRETS = ("Zweistein", "PID-0815", "31.12.1950")


@pytest.mark.parametrize("spoil", ["nothing", "truncate", "position", "spacing", "colour"])
def test_nothing_about_the_patient_is_told(tmp_path: Path, spoil: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    level = logging.getLogger("pydicom").level
    files = series.make_series(tmp_path, series.make_volume(), syntax=ImplicitVRLittleEndian)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            plant_secrets(Path(file))
        data = pydicom.dcmread(files[1])
        if spoil == "position":
            data.ImagePositionPatient = None
        elif spoil == "spacing":
            data._dict[pydicom.tag.Tag("PixelSpacing")] = raw_element("PixelSpacing", b"Zweistein\\PID-0815 ")
        elif spoil == "colour":
            data.SamplesPerPixel = 3
        data.save_as(files[1])
    if spoil == "truncate":
        Path(files[1]).write_bytes(Path(files[1]).read_bytes()[:-9])
    caplog.clear()
    message = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (found,) = find_series(tmp_path, progress=False)
        try:
            read_series(found.files)
        except ValueError as error:
            assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
            message = str(error)
    assert bool(message) == (spoil != "nothing")
    told = message + caplog.text + "".join(str(warning.message) for warning in caught) + found.id
    assert not [secret for secret in SECRETS if secret in told]
    assert logging.getLogger("pydicom").level == level


def plant_secrets(file: Path) -> None:
    """Gives a patient a name, an id, and a birth date that DICOM does not allow."""
    data = pydicom.dcmread(file)
    data.PatientName, data.PatientID = "Zweistein^" + "x" * 70, "PID-0815" + "y" * 70
    for tag in ("PatientBirthDate", "StudyDate", "InstanceCreationDate"):
        data._dict[pydicom.tag.Tag(tag)] = raw_element(tag, b"31.12.1950")
    data._dict[pydicom.tag.Tag("SeriesNumber")] = raw_element("SeriesNumber", b"Zweistein ")
    data.save_as(file)


def raw_element(keyword: str, value: bytes) -> pydicom.dataelem.RawDataElement:
    """An element as it lies in a file, unchecked."""
    tag = pydicom.tag.Tag(keyword)
    return pydicom.dataelem.RawDataElement(tag, pydicom.datadict.dictionary_VR(tag), len(value), value, 0, True, True)


def test_a_preamble_is_not_needed(tmp_path: Path) -> None:
    stored = series.make_volume((6, 5, 1))
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        (file,) = series.make_series(tmp_path / str(syntax), stored, syntax=syntax)
        content = Path(file).read_bytes()
        meta_length = int.from_bytes(content[140:144], "little")
        Path(file).write_bytes(content[144 + meta_length :])
        assert (read_series([file]).array == stored.astype(int) - 1000).all()


def test_chaos_comes_in_with_its_feet_first(data_root: Path) -> None:
    (found,) = find_series(data_root / "chaos_ct_dicom", progress=False)
    volume = read_series(found.files)
    assert (found.id, volume.array.shape, volume.array.dtype) == ("DICOM_anon", (512, 512, 78), np.int16)
    assert [Path(volume.files[z]).name[:5] for z in (0, 77)] == ["i0077", "i0000"]
    expected = [[-0.7265625, 0, 0, 185], [0, -0.7265625, 0, 98], [0, 0, 2, 1536.5], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected)
    stored = pydicom.dcmread(volume.files[40]).pixel_array
    assert (volume.array[:, :, 40] == stored.T.astype(int) - 1000).all()
