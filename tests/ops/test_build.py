"""The build: with a compiler and without one, never with torch, and by every way to start it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hidiff_monai.ops import build

ROOT = Path(__file__).resolve().parents[2]
EXPLANATION = "hidiff-monai: packed operators not built, plain PyTorch runs in their place: "


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the build reads of this repository, and a torch that may not be imported."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "_packed.so*")
    shutil.copytree(ROOT / "hidiff_monai", folder / "hidiff_monai", ignore=ignored)
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "torch.py").write_text("raise ImportError('torch was imported by the build')\n")
    return folder


def run_in(checkout: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    search = {"PYTHONPATH": str(checkout.parent / "poison"), **environment}
    return subprocess.run(
        [sys.executable, *command], cwd=checkout, env={**os.environ, **search}, capture_output=True, text=True
    )


def library_of(checkout: Path) -> Path:
    return checkout / "hidiff_monai" / "ops" / "_packed.so"


def check_explained(result: subprocess.CompletedProcess[str], reason: str) -> None:
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith(EXPLANATION)]
    assert len(lines) == 1 and reason in lines[0], result.stderr


@pytest.mark.parametrize("command", [("setup.py", "-q", "build_ext", "--inplace"), ("hidiff_monai/ops/build.py",)])
def test_build_without_a_compiler_succeeds(checkout: Path, command: tuple[str, ...]) -> None:
    check_explained(run_in(checkout, *command, CXX="", PATH=str(checkout)), "found no C++ compiler")
    check_explained(run_in(checkout, *command, CXX="no-such-compiler"), "CXX is no-such-compiler")
    if shutil.which("false"):
        check_explained(run_in(checkout, *command, CXX="false"), "false failed on library.cpp")
    assert not library_of(checkout).exists()


def test_wheel_without_a_compiler_has_the_sources(checkout: Path) -> None:
    check_explained(run_in(checkout, "setup.py", "-q", "bdist_wheel", CXX="no-such-compiler"), "found no C++ compiler")
    (wheel,) = (checkout / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"hidiff_monai/ops/csrc/{path.name}" for path in build.CSRC.iterdir()} <= names
    assert "hidiff_monai/ops/_packed.so" not in names


def test_another_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    with pytest.raises(build.BuildError, match="on arm64; expected Linux on x86-64"):
        build.find_compiler()


def test_failed_build_leaves_no_older_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "_packed.so"
    library.write_text("older")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not build.build_or_explain(library, tmp_path / "objects")
    assert not library.exists()
    assert capfd.readouterr().err.startswith(EXPLANATION)


def _has_compiler() -> bool:
    try:
        return bool(build.find_compiler())
    except build.BuildError:
        return False


@pytest.mark.skipif(not _has_compiler(), reason="no C++ compiler for x86-64 here")
def test_build_needs_no_torch_and_its_library_loads(checkout: Path) -> None:
    result = run_in(checkout, "setup.py", "-q", "build_ext", "--inplace", CXXFLAGS="-O0")
    assert result.returncode == 0 and EXPLANATION not in result.stderr, result.stderr
    assert {path.name for path in checkout.iterdir()} <= {
        *("setup.py", "pyproject.toml", "README.md", "LICENSE", "hidiff_monai", "build", "hidiff_monai.egg-info")
    }, "temporary files belong into build/"
    show = "import hidiff_monai.ops as ops; print(ops.__file__, ops.status().library, ops.status().is_outdated)"
    shown = run_in(checkout, "-c", show, PYTHONPATH=str(checkout), HIDIFF_INSTRUCTION_SET="")
    package = library_of(checkout).parent
    assert shown.stdout.split() == [f"{package}/__init__.py", f"{package}/_packed.so", "False"], shown.stderr
