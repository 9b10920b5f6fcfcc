"""Whatever a file or an option holds: a sentence of ours, no half-written file, and nothing about the patient."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread

from hidiff_monai.data import check_dataset
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.prediction import run_prediction

SPEC = importlib.util.spec_from_file_location("series", Path(__file__).parents[1] / "io" / "series.py")
assert SPEC is not None and SPEC.loader is not None
series = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(series)

PLANTED = ("PLANTED", "SECRETID", "19331122")
FUZZ = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


def require_clean(output: Path, case: dict[str, Any]) -> None:
    """A failed case has an error of ours and no file; nothing is half-written."""
    names = {file.name for file in output.rglob("*") if file.is_file()}
    assert not any(name.endswith(".tmp") for name in names)
    if case["status"] == "failed":
        assert "please report this" not in case["error"], case["error"]
        assert names <= {"manifest.json", "index.html", f"{case['id']}.json"}
    else:
        assert set(case["outputs"].values()) <= names


@pytest.fixture(scope="module")
def nifti_bytes() -> bytes:
    """A small volume, uncompressed: 348 bytes of header, then voxels."""
    voxels = np.random.default_rng(0).normal(size=(8, 9, 2)).astype(np.float32)
    return nibabel.Nifti1Image(voxels, np.diag([1, 2, 3, 1])).to_bytes()


@FUZZ
@given(
    edits=st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    keep=st.one_of(st.none(), st.integers(0, 900)),
)
def test_a_nifti_header_of_any_kind(
    bundle_arguments: Callable[[str], dict[str, Any]],
    nifti_bytes: bytes,
    edits: list[tuple[int, bytes]],
    keep: int | None,
) -> None:
    content = bytearray(nifti_bytes)
    for position, replacement in edits:
        content[position : position + len(replacement)] = replacement
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        (folder / "in" / "x.nii").write_bytes(bytes(content[:keep]))
        run = {"source": folder / "in", "output": folder / "out", "report": False}
        (case,) = run_prediction(**run, **bundle_arguments("acdc"))["cases"]
        require_clean(folder / "out", case)


@pytest.fixture(scope="module")
def dicom_series(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three slices of a CT with a patient's name, number and date of birth in every header."""
    folder = tmp_path_factory.mktemp("series")
    who = {"PatientName": "PLANTED^NAME", "PatientID": "SECRETID", "PatientBirthDate": "19331122"}
    extra = {"PatientComments": "PLANTED", "AccessionNumber": "SECRETID"}
    files = series.make_series(folder, series.make_volume((9, 8, 3)), **who, **extra)
    return [Path(file).read_bytes() for file in files]


@FUZZ
@given(
    which=st.integers(0, 2),
    edits=st.lists(st.tuples(st.integers(128, 1400), st.binary(min_size=1, max_size=6)), max_size=3),
    keep=st.one_of(st.none(), st.integers(0, 1500)),
)
def test_a_dicom_header_of_any_kind_tells_nothing_about_the_patient(
    bundle_arguments: Callable[[str], dict[str, Any]],
    dicom_series: list[bytes],
    which: int,
    edits: list[tuple[int, bytes]],
    keep: int | None,
) -> None:
    content = bytearray(dicom_series[which])
    for position, replacement in edits:
        content[position : position + len(replacement)] = replacement
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            folder = Path(name)
            (folder / "in").mkdir()
            for number, data in enumerate(dicom_series):
                (folder / "in" / f"{number}.dcm").write_bytes(bytes(content[:keep]) if number == which else data)
            run = {"source": folder / "in", "output": folder / "out"}
            manifest = run_prediction(**run, **bundle_arguments("synapse"))
            for case in manifest["cases"]:
                assert "please report this" not in str(case["error"]), case["error"]
            said += [str(warning.message) for warning in caught]
            texts = [file.read_text(encoding="utf-8") for file in (folder / "out").rglob("*") if file.suffix != ".dcm"
                     and file.suffix != ".png" and file.is_file()]  # fmt: skip
            names = [file.name for file in (folder / "out").rglob("*")]
            assert not any(name.endswith(".tmp") for name in names)
    finally:
        logging.getLogger().removeHandler(handler)
    for text in [*said, *texts, *names]:
        assert not any(word in text for word in PLANTED), text[:300]


def test_dicom_output_carries_what_the_standard_demands_and_no_more(
    tmp_path: Path, bundle_arguments: Callable[[str], dict[str, Any]], dicom_series: list[bytes]
) -> None:
    (tmp_path / "in").mkdir()
    for number, data in enumerate(dicom_series):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(data)
    run = {"source": tmp_path / "in", "output": tmp_path / "out", "rtstruct": True}
    (case,) = run_prediction(**run, **bundle_arguments("synapse"))["cases"]
    assert len(case["outputs"]) == 3
    for file in case["outputs"].values():
        written = dcmread(tmp_path / "out" / file)
        assert str(written.PatientName) == "PLANTED^NAME" and written.PatientID == "SECRETID"  # the same patient
        assert "PatientComments" not in written


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5)),
    lambda children: st.one_of(
        st.lists(children, max_size=3), st.dictionaries(st.text(max_size=6), children, max_size=3)
    ),
    max_leaves=6,
)


@FUZZ
@given(key=st.sampled_from(["channels", "label_values", "test", "label_threshold", "folds"]), value=json_values)
def test_a_datalist_of_any_kind(key: str, value: Any) -> None:
    datalist = {"name": "x", "channels": 3, "label_values": {"0": 0, "255": 1}, "test": [{"id": "a", "image": "a.png"}]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.png").write_bytes(b"no picture")
        (folder / "datalist.json").write_text(json.dumps({**datalist, key: value}))
        try:
            check_dataset(folder / "datalist.json", folder, progress=False)
        except ValueError as error:
            assert "expected" in str(error)


@FUZZ
@given(
    key=st.sampled_from(["num_inference_steps", "segmentor#channels", "refiner#channels", "threshold", "inferer#seed"]),
    value=st.one_of(st.none(), st.integers(-3, 40), st.text(max_size=4), st.lists(st.integers(-2, 9), max_size=7)),
)
def test_an_override_of_any_kind(
    bundle_arguments: Callable[[str], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)).save(folder / "in" / "x.png")
    arguments = bundle_arguments("kvasir_seg")
    arguments["overrides"] = {**arguments["overrides"], key: value}
    try:
        manifest = run_prediction(source=folder / "in", output=folder / "out", report=False, **arguments)
        require_clean(folder / "out", manifest["cases"][0])
    except (ValueError, RuntimeError) as error:
        assert find_value_error(error) is not None, repr(error.__cause__ or error)
    shutil.rmtree(folder)
