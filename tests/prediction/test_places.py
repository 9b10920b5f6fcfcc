"""Where a run may write."""

from pathlib import Path

import pytest

from hidiff_monai.prediction.places import require_places


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["index.html", "manifest.json"])
def test_the_report_of_something_else_is_not_replaced(source: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "evaluation_test"
    output.mkdir()
    (output / name).write_text('{"section": "test"}')
    with pytest.raises(ValueError, match=f"has {name}, which no run of `hidiff predict` has written"):
        require_places(source, output, None)
    assert (output / name).read_text() == '{"section": "test"}'


def test_the_folder_of_an_earlier_run_is_taken_up(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "masks"
    (output / "cases").mkdir(parents=True)
    (output / "index.html").write_text("page")
    assert require_places(source, output, None).output == output


def test_a_run_stopped_before_its_first_case_is_taken_up(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "masks"
    output.mkdir()
    (output / "manifest.json").write_text('{"planned": 3, "cases": []}')
    assert require_places(source, output, None).output == output
