"""The C++ program of examples/cpp, built and run on what ``hidiff export`` writes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hidiff_monai import ops
from hidiff_monai.export.command import export_bundle

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "cpp" / "refine.cpp"


def build(folder: Path) -> Path:
    """The line of examples/cpp/README.md."""
    torch_dir = Path(torch.__file__).parent
    includes = [torch_dir / "include", torch_dir / "include" / "torch" / "csrc" / "api" / "include"]
    line = ["g++", "-std=c++20", "-O2", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}", str(SOURCE)]
    line += ["-o", str(folder / "refine"), *(part for place in includes for part in ("-isystem", str(place)))]
    line += [f"-L{torch_dir / 'lib'}", f"-Wl,-rpath,{torch_dir / 'lib'}", "-Wl,--no-as-needed"]
    line += ["-ltorch", "-ltorch_cpu", "-lc10", "-ldl"]
    subprocess.run(line, check=True)
    return folder / "refine"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.skipif(ops.status().library is None, reason="the packed operators are not compiled here")
def test_the_program_gives_what_python_gives(made: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    program, given, library = build(tmp_path), made("drive"), ops.status().library
    image = torch.randn(2, 3, 40, 33)
    torch.save(image, tmp_path / "image.pt")
    for packed in (False, True):
        file, output = tmp_path / f"packed_{packed}.ts", tmp_path / "probability.pt"
        export_bundle(**{**given, "format": "ts", "output": file, "packed": packed})
        operators = [str(library)] if packed else []
        line = [str(program), str(file), str(tmp_path / "image.pt"), str(output), *operators]
        done = subprocess.run(line, text=True, capture_output=True)
        assert done.returncode == 0 and done.stdout.startswith("[2, 1, 40, 33], share above 1/2: "), done.stderr
        with torch.no_grad():
            torch.testing.assert_close(torch.load(output), torch.jit.load(file)(image), rtol=0, atol=1e-6)
    missing, unwritable = str(tmp_path / "nowhere.pt"), str(tmp_path / "nowhere" / "probability.pt")
    for wrong, message in (
        ([*line[:-1], "nowhere.so"], "nowhere.so: cannot open"),
        ([*line[:2], missing, *line[3:]], f"{missing}: cannot be read"),
        ([*line[:3], unwritable, *line[4:]], f"{unwritable}: cannot be written"),
    ):
        done = subprocess.run(wrong, text=True, capture_output=True)
        assert done.returncode == 1 and message in done.stderr
