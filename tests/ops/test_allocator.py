"""Freed memory is used again: no new pages after the first round."""

import resource
import subprocess
import sys

import pytest

from hidiff_monai.ops import allocator
from hidiff_monai.ops.allocator import keep_freed_memory

IS_GLIBC = sys.platform.startswith("linux") and hasattr(allocator.ctypes.CDLL(None), "gnu_get_libc_version")
COUNT_FAULTS = """
import resource, sys, torch
from hidiff_monai.ops.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
def work():
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB, written and freed
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    """Page faults of ten tensors of 64 MiB, in a process of their own."""
    return int(subprocess.check_output([sys.executable, "-c", COUNT_FAULTS, mode], text=True))


def test_calls_may_be_repeated() -> None:
    assert keep_freed_memory() == keep_freed_memory() == IS_GLIBC


@pytest.mark.skipif(not IS_GLIBC, reason="the C library is not glibc")
def test_large_tensors_are_made_of_pages_that_are_there() -> None:
    pages = 10 * 2**26 // resource.getpagesize()
    assert faults("keep") < pages / 100


@pytest.mark.parametrize("absent", ["gnu_get_libc_version", "mallopt"])
def test_another_c_library_is_left_alone(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = {"gnu_get_libc_version": None, "mallopt": None}
    del functions[absent]
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: type("Library", (), functions)())
    assert keep_freed_memory.__wrapped__() is False


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert keep_freed_memory.__wrapped__() is False
