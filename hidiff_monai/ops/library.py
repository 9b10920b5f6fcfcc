"""The operators ``torch.ops.hidiff_monai.*``: compiled where they were built, plain PyTorch everywhere else.

Importing this module registers them. HIDIFF_INSTRUCTION_SET names one of INSTRUCTION_SETS; the best that the CPU has
is taken where it is unset. On every device but the CPU they are plain PyTorch.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from hidiff_monai.ops import build, reference

NAMESPACE = "hidiff_monai"
INSTRUCTION_SETS = ("avx512", "avx2", "torch")
VARIABLE = "HIDIFF_INSTRUCTION_SET"
OPERATORS: dict[str, Callable[..., None]] = {
    "pack_signs": reference.pack_signs,
    "binary_conv2d": reference.binary_conv2d,
    "stem_conv2d": reference.stem_conv2d,
    "head_conv2d": reference.head_conv2d,
}


@dataclass(frozen=True)
class Status:
    """How the packed operators run in this process.

    Attributes:
        instruction_set: one of INSTRUCTION_SETS; "torch" is plain PyTorch.
        reason: why this one.
        available: those that `use_instruction_set` takes.
        num_threads: torch's; 1 for the compiled operators where torch is older than 2.10.
        library: the compiled library, None where it is not loaded.
        is_outdated: the sources beside the library are not those that it was compiled from.
    """

    instruction_set: str
    reason: str
    available: tuple[str, ...]
    num_threads: int
    library: Path | None
    is_outdated: bool


def read_schemas() -> list[str]:
    """The operators' schemas, one text each; the C++ side includes the same file."""
    text = (build.CSRC / "schemas.inc").read_text(encoding="utf-8")
    body = text.removeprefix('R"(').rstrip().removesuffix(')"')
    return [" ".join(schema.split()) for schema in body.split("\n\n")]


class _Registration:
    """What is registered in torch's dispatcher for the life of the process, and what runs on the CPU right now."""

    def __init__(self) -> None:
        self.requested = _read_request()
        self.native, self.reason = _load_native(self.requested)
        self._library = torch.library.Library(NAMESPACE, "FRAGMENT")
        self._override: torch.library.Library | None = None
        if self.native is None:
            for schema in read_schemas():
                self._library.define(schema)
        for name, function in OPERATORS.items():
            self._library.impl(name, function, "CompositeExplicitAutograd")
            self._library.impl(name, _fake(function), "Meta")
        self.available = tuple(name for name in INSTRUCTION_SETS if name == "torch" or self._has(name))
        self._start()

    @property
    def active(self) -> str:
        if self.native is None or self._override is not None:
            return "torch"
        return self.native.hidiff_instruction_set().decode()

    def activate(self, name: str) -> None:
        """Runs one of the available ones on the CPU from now on."""
        if name not in self.available:
            raise ValueError(f"instruction set {name!r}; expected one of {self.available}: {self.reason}")
        if self.native is None:
            return
        if name == "torch" and self._override is None:
            self._override = _override_cpu()
        elif name != "torch":
            self.native.hidiff_use_instruction_set(name.encode())
            if self._override is not None:
                self._override._destroy()
                self._override = None

    def _has(self, name: str) -> bool:
        return self.native is not None and bool(self.native.hidiff_has_instruction_set(name.encode()))

    def _start(self) -> None:
        if self.requested is not None and self.requested not in self.available:
            raise ValueError(f"{VARIABLE} is {self.requested!r}; expected one of {self.available}: {self.reason}")
        if self.native is not None and self.available == ("torch",):
            self.activate("torch")


def _read_request() -> str | None:
    value = os.environ.get(VARIABLE) or None
    if value is not None and value not in INSTRUCTION_SETS:
        raise ValueError(f"{VARIABLE} is {value!r}; expected one of {INSTRUCTION_SETS}, or leave it unset")
    return value


def _load_native(requested: str | None) -> tuple[ctypes.CDLL | None, str]:
    """The compiled library, or None, and why."""
    if requested == "torch":
        return None, f"{VARIABLE}=torch"
    if not build.LIBRARY.is_file():
        return None, f"{build.LIBRARY.name} was not built; python {Path(build.__file__)} builds it, or says why not"
    if build.source_digest().encode() not in build.LIBRARY.read_bytes():
        return None, f"{build.LIBRARY.name} is of other sources; python {Path(build.__file__)} builds it anew"
    try:
        torch.ops.load_library(build.LIBRARY)
    except OSError as error:
        hint = "; it needs torch 2.7 or newer" if "undefined symbol" in str(error) else ""
        return None, f"{build.LIBRARY.name} does not load: {error}{hint}"
    native = ctypes.CDLL(str(build.LIBRARY))
    native.hidiff_instruction_set.restype = ctypes.c_char_p
    native.hidiff_source_digest.restype = ctypes.c_char_p
    native.hidiff_num_threads.restype = ctypes.c_int64
    if not native.hidiff_is_registered():
        raise ImportError(f"{build.LIBRARY} could not register its operators; torch's message is on stderr")
    if requested is not None:
        return native, f"{VARIABLE}={requested}"
    if native.hidiff_instruction_set() == b"none":
        return native, "this CPU has neither AVX-512 (F, BW, DQ, VL, VPOPCNTDQ) nor AVX2 with FMA and F16C"
    return native, "the best that this CPU has"


def _override_cpu() -> torch.library.Library:
    """Puts plain PyTorch in the place of the compiled operators, until the library it returns is destroyed."""
    override = torch.library.Library(NAMESPACE, "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*may also be overridden")  # it is meant
        for name, function in OPERATORS.items():
            override.impl(name, function, "CPU")
    return override


def _fake(function: Callable[..., None]) -> Callable[..., None]:
    """The operator on fake tensors: it returns nothing and what it writes into has a shape, so that nothing is left."""
    names = list(inspect.signature(function).parameters)

    def check_devices(*arguments: object) -> None:
        devices = {
            name: argument.device
            for name, argument in zip(names, arguments, strict=True)
            if isinstance(argument, torch.Tensor)
        }
        if len(set(devices.values())) > 1:
            places = ", ".join(f"{name} is on {device}" for name, device in devices.items())
            raise ValueError(f"{places}; expected one device for all")

    return check_devices


_registration = _Registration()


def status() -> Status:
    """How the packed operators run now; the environment verb prints it."""
    native, active = _registration.native, _registration.active
    return Status(
        instruction_set=active,
        reason=_registration.reason,
        available=_registration.available,
        num_threads=torch.get_num_threads() if native is None or active == "torch" else native.hidiff_num_threads(),
        library=None if native is None else build.LIBRARY,
        is_outdated=native is not None and native.hidiff_source_digest().decode() != build.source_digest(),
    )


@contextmanager
def use_instruction_set(name: str) -> Iterator[None]:
    """Runs the operators on the CPU with this instruction set within a ``with``, for every thread; for tests.

    Args:
        name: one of ``status().available``.
    """
    previous = _registration.active
    _registration.activate(name)
    try:
        yield
    finally:
        _registration.activate(previous)
