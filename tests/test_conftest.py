"""The rule that real-data tests are never skipped in silence, tried on a project of its own."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CASES = """
import pytest

def test_drive(drive_dir):
    assert drive_dir.name == "drive"

@pytest.mark.real_data
@pytest.mark.skip(reason="switched off")
def test_marked(): ...

@pytest.mark.skip(reason="nothing to do with data")
def test_other(): ...

@pytest.mark.real_data
@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    assert False
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = real_data")
    pytester.makepyfile(CASES)
    return pytester


def test_skips_without_data(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFF_DATA", str(project.path / "absent"))
    result = project.runpytest("-rs")
    result.assert_outcomes(skipped=3, xfailed=1)
    result.stdout.fnmatch_lines(["*no real data: *absent is not a folder; set HIDIFF_DATA*"])
    assert result.ret == pytest.ExitCode.OK


def test_skipped_real_data_fails_where_data_exists(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFF_DATA", str(project.mkdir("data")))
    result = project.runpytest()
    result.assert_outcomes(errors=2, skipped=1, xfailed=1)  # no drive folder; marked and switched off
    result.stdout.fnmatch_lines(["*SKIPPED although*: no DRIVE data*", "*SKIPPED although*: switched off*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_runs_where_data_exists(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFF_DATA", str(project.mkdir("data")))
    project.mkdir("data/drive")
    project.runpytest("-k", "drive").assert_outcomes(passed=1, deselected=3)


def test_using_a_fixture_marks_the_test(project: pytest.Pytester) -> None:
    project.runpytest("-m", "not real_data").assert_outcomes(skipped=1, deselected=3)
