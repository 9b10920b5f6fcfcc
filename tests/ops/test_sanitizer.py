"""The compiled operators under AddressSanitizer and UndefinedBehaviorSanitizer, whatever their arguments and shapes.

Torch's own memory is watched too, since the sanitizer takes the place of the allocator of the whole process.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hidiff_monai.ops import build, status

FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
TESTS = Path(__file__).parent
CHECK = "not torch and (test_arguments or every_way or in_place)"
RUN = """
import sys, pytest
from hidiff_monai.ops import status
assert str(status().library).startswith(sys.argv[1]), f"{status()}; expected the sanitized library"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""
PROBE = 'extern "C" int read_at(const int* values, long index) { return values[index]; }'
READ = """
import ctypes, sys, torch
values = torch.zeros(1000, dtype=torch.int32)
probe = ctypes.CDLL(sys.argv[1])
print(probe.read_at(ctypes.c_void_p(values.data_ptr()), ctypes.c_long(int(sys.argv[2]))))
"""


def _find_runtimes() -> list[str]:
    """What has to be in the process before Python: the sanitizer, and C++ for the exceptions that it watches."""
    try:
        compiler = build.find_compiler()
    except build.BuildError:
        return []
    found = []
    for name in ("libasan.so", "libstdc++.so.6"):
        command = [*compiler, f"-print-file-name={name}"]
        found.append(Path(subprocess.run(command, capture_output=True, text=True).stdout.strip()))
    return [str(path) for path in found] if all(path.is_absolute() for path in found) else []


RUNTIMES = _find_runtimes()
pytestmark = [
    pytest.mark.skipif(not RUNTIMES, reason="no compiler with AddressSanitizer's runtime (g++ on Linux) here"),
    pytest.mark.skipif(status().available == ("torch",), reason=f"no compiled operators here: {status().reason}"),
]


def run_sanitized(*arguments: str, search: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HIDIFF_INSTRUCTION_SET"},
        "LD_PRELOAD": " ".join(RUNTIMES),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself keeps memory until its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(search),
    }
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, cwd=search, env=environment, capture_output=True, text=True, timeout=600)


def test_sanitizer_sees_a_read_beyond_a_tensor(tmp_path: Path) -> None:
    source, library = tmp_path / "probe.cpp", tmp_path / "probe.so"
    source.write_text(PROBE)
    flags = ["-shared", "-fPIC", *FLAGS.split()]
    subprocess.run([*build.find_compiler(), *flags, str(source), "-o", str(library)], check=True)
    assert run_sanitized(READ, str(library), "999", search=tmp_path).stdout == "0\n"
    beyond = run_sanitized(READ, str(library), "1000", search=tmp_path)
    assert beyond.returncode != 0 and "heap-buffer-overflow" in beyond.stderr


def test_operators_stay_within_their_memory(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "_packed.so*")
    shutil.copytree(build.CSRC.parents[1], tmp_path / "hidiff_monai", ignore=ignored)
    shutil.copytree(TESTS, tmp_path / "tests", ignore=ignored)
    package = tmp_path / "hidiff_monai" / "ops"
    subprocess.run([sys.executable, package / "build.py"], env={**os.environ, "CXXFLAGS": FLAGS}, check=True)
    files = [str(tmp_path / "tests" / name) for name in ("test_arguments.py", "test_library.py")]
    result = run_sanitized(RUN, str(package), *files, "-k", CHECK, search=tmp_path)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    assert "passed" in result.stdout
