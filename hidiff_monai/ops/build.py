"""Compiles csrc/ into one shared library; needs a C++ compiler and this file, neither torch nor setuptools."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CSRC = Path(__file__).resolve().parent / "csrc"
LIBRARY = CSRC.with_name("_packed.so")

FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]
# In the order of linking: of an inline function that several files hold the first copy is taken, and that one has to
# run on every CPU.
SOURCES: dict[str, list[str]] = {
    "library.cpp": [],
    "operators.cpp": [],
    "binary_conv2d.cpp": [],
    "arguments.cpp": [],
    "dispatch.cpp": [],
    "kernels_avx2.cpp": ["-mavx2", "-mfma", "-mf16c", "-mpopcnt"],
    "kernels_avx512.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vpopcntdq"),
        *("-mfma", "-mf16c", "-mpopcnt"),
    ],
}


class BuildError(Exception):
    """Why there is no library."""


def source_digest() -> str:
    """Tells one state of csrc/ from another; the library carries that of the sources it was made from."""
    digest = hashlib.sha256()
    for path in sorted(CSRC.iterdir()):
        if path.suffix in {".cpp", ".h", ".inc"}:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def find_compiler() -> list[str]:
    """The C++ compiler's command: CXX, or the first one on the path.

    Raises:
        BuildError: this machine is none the kernels are written for, or there is no compiler.
    """
    if not sys.platform.startswith("linux") or platform.machine().lower() not in {"x86_64", "amd64"}:
        raise BuildError(f"this is {platform.system()} on {platform.machine()}; expected Linux on x86-64")
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    raise BuildError(f"found no C++ compiler: {'CXX is ' + shlex.join(named) if named else 'no c++, g++ or clang++'}")


def build(library: Path, temporary: Path) -> None:
    """Compiles every source and links the library; CXXFLAGS and LDFLAGS come after all other options.

    Args:
        library: the file to write; it is replaced only once the new one is complete.
        temporary: the folder for objects.

    Raises:
        BuildError: there is no compiler, or it failed; its own messages are on stderr.
    """
    compiler = find_compiler()
    temporary.mkdir(parents=True, exist_ok=True)
    common = [*FLAGS, f'-DHIDIFF_SOURCE_DIGEST="{source_digest()}"']
    extra = shlex.split(os.environ.get("CXXFLAGS", ""))
    objects = {name: str(temporary / f"{name}.o") for name in SOURCES}
    _run_all(
        {
            name: [*compiler, *common, *own, *extra, "-c", str(CSRC / name), "-o", objects[name]]
            for name, own in SOURCES.items()
        }
    )
    unfinished = temporary / library.name
    libraries = [*_link_libtorch(compiler, temporary), *shlex.split(os.environ.get("LDFLAGS", ""))]
    linking = [*compiler, "-shared", *objects.values(), *extra, *libraries, "-o", str(unfinished)]
    _run_all({library.name: linking})
    library.parent.mkdir(parents=True, exist_ok=True)
    beside = library.with_name(f"{library.name}.{os.getpid()}")
    shutil.copyfile(unfinished, beside)
    beside.replace(library)


def build_or_explain(library: Path, temporary: Path) -> bool:
    """Builds the library; where that fails there is none afterwards, and one line says why and what follows from it."""
    try:
        build(library, temporary)
    except BuildError as error:
        library.unlink(missing_ok=True)
        print(f"hidiff-monai: packed operators not built, plain PyTorch runs in their place: {error}", file=sys.stderr)
        return False
    return True


def _link_libtorch(compiler: list[str], temporary: Path) -> list[str]:
    """Makes the library ask for libtorch_cpu without one: its name is all that the linker needs."""
    empty = temporary / "empty.cpp"
    empty.write_text("")
    name = "libtorch_cpu.so"
    _run_all({name: [*compiler, "-shared", f"-Wl,-soname,{name}", str(empty), "-o", str(temporary / name)]})
    return [f"-L{temporary}", "-Wl,--no-as-needed", "-ltorch_cpu"]


def _run_all(commands: Mapping[str, list[str]]) -> None:
    """Runs the commands side by side; each is named for what it compiles or links."""
    try:
        running = {name: subprocess.Popen(command) for name, command in commands.items()}
    except OSError as error:
        raise BuildError(f"the compiler does not start: {error}") from error
    failed = [name for name, process in running.items() if process.wait() != 0]
    if failed:
        raise BuildError(f"{commands[failed[0]][0]} failed on {', '.join(failed)}")


if __name__ == "__main__":  # without setuptools: beside this file
    build_or_explain(LIBRARY, CSRC.parents[2] / "build" / "packed")
