"""The processor's clock, measured: what a virtual machine reports is often not what it runs at."""

from __future__ import annotations

import ctypes
import mmap
import platform
import re
from pathlib import Path
from time import perf_counter

MULTIPLICATIONS, CYCLES_EACH = 64, 3  # the latency of imul on every AMD since Zen and every Intel since Nehalem
LOOPS = 5_000  # a million cycles, well within the time that a busy machine gives at once
CPUINFO = Path("/proc/cpuinfo")


def measure_clock_hz(repeats: int = 200) -> float | None:
    """Cycles a second of the core that this runs on, the fastest of some trials; None where neither way is open.

    A chain of multiplications is timed. Where the system refuses to run code from memory, or the processor is no
    x86-64, it is what the system reports.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"} or platform.system() != "Linux":
        return reported_clock_hz()
    code, _ = assemble_loop()
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
            memory.write(code)
            return LOOPS * MULTIPLICATIONS * CYCLES_EACH / _fastest_run(memory, repeats)
    except OSError:
        return reported_clock_hz()


def assemble_loop() -> tuple[bytes, int]:
    """x86-64 code of a function of a number of loops, of multiplications each of which waits for the one before.

    Returns:
        The code, and the bytes that its jump goes forward.
    """
    start = b"\x48\x89\xf9"  # mov rcx, rdi
    loop = b"\x0f\xaf\xc0" * MULTIPLICATIONS + b"\x48\xff\xc9" + b"\x0f\x85"  # imul eax, eax; dec rcx; jnz
    jump = -len(loop) - 4
    return start + loop + jump.to_bytes(4, "little", signed=True) + b"\xc3", jump


def reported_clock_hz() -> float | None:
    """What /proc/cpuinfo says of the first core."""
    try:
        found = re.search(r"^cpu MHz\s*:\s*([\d.]+)", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return float(found[1]) * 1e6 if found else None


def _fastest_run(memory: mmap.mmap, repeats: int) -> float:
    """Seconds of `LOOPS` loops."""
    anchor = ctypes.c_char.from_buffer(memory)
    run = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(ctypes.addressof(anchor))
    times = []
    for _ in range(repeats):
        start = perf_counter()
        run(LOOPS)
        times.append(perf_counter() - start)
    del run, anchor  # else the memory cannot be given back
    return min(times)
