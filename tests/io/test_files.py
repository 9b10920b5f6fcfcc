"""Files are whole or not there, and folders are tried before work begins."""

from pathlib import Path

import pytest

from hidiff_monai.io import list_images, require_writable, write_atomically


def test_a_block_that_ends_well_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    for text in ("old", "new"):
        with write_atomically(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), write_atomically(path) as temporary:
        temporary.write_text("ha")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_require_writable_makes_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    folder = require_writable(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_with_the_mend(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (file, file / "below"):
        with pytest.raises(ValueError, match=rf"{folder}: cannot be written \(.+\).*choose another"):
            require_writable(folder)
    assert file.read_text() == "mine"


def test_list_images_sorts_and_takes_only_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tif", "notes.txt"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [str(tmp_path / "a.tif"), str(tmp_path / "b.PNG")]
    assert list_images(tmp_path / "a.tif") == [str(tmp_path / "a.tif")]
    with pytest.raises(ValueError, match="notes.txt: no image found; expected files ending in .png"):
        list_images(tmp_path / "notes.txt")


def test_list_images_refuses_names_whose_masks_would_clash(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"\['a'\]"):
        list_images(tmp_path)


def test_a_folder_below_the_home_is_no_folder_called_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell leaves ``--output=~/x`` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert require_writable("~/x") == tmp_path / "x"
    assert not (tmp_path / "~").exists()
