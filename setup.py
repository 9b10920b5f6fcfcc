"""Builds the packed operators where there is a C++ compiler; everything else is said in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
# By its path: to import the package would need torch.
packed = runpy.run_path(str(ROOT / "hidiff_monai" / "ops" / "build.py"))


class BuildPacked(build_ext):
    """A plain shared library, which torch loads: the same for every version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, extension: Extension) -> None:
        packed["build_or_explain"](Path(self.get_ext_fullpath(extension.name)), Path(self.build_temp))


sources = [f"hidiff_monai/ops/csrc/{name}" for name in packed["SOURCES"]]
setup(
    ext_modules=[Extension("hidiff_monai.ops._packed", sources, optional=True)],
    cmdclass={"build_ext": BuildPacked},
)
