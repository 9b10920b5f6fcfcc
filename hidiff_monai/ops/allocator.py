"""The C library's allocator, told to keep what it has."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
LARGEST_INT = 2**31 - 1
KEEP_FREED = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: LARGEST_INT}


@cache
def keep_freed_memory() -> bool:
    """Lets this process use freed memory again instead of giving it back to the system and asking for new pages.

    glibc maps every large block by itself and unmaps it when it is freed. A network's maps are such blocks: each one is
    then made of new pages, which the kernel has to find and fill with zeros while the layer waits. Here large blocks
    come from the heap (``M_MMAP_MAX`` 0), which never shrinks (``M_TRIM_THRESHOLD``); the process keeps its peak size.
    Call it before the work begins; later calls change nothing.

    Returns:
        Whether it was done; False where the C library has no ``mallopt`` (macOS, Windows, musl).
    """
    return set_options(KEEP_FREED)


def set_options(options: dict[int, int]) -> bool:
    """Sets options of glibc's ``mallopt``, by number; False where there is none."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    return all([library.mallopt(option, value) == 1 for option, value in options.items()])
