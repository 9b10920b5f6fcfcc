"""What MONAI's command line leaves unsaid: keys that no configuration has, and why a run ended."""

from __future__ import annotations

import difflib
import inspect
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import yaml
from monai.bundle import run


def guard_command_line(arguments: Sequence[str] | None = None) -> None:
    """Makes mistakes visible in a run of ``python -m monai.bundle``: the first thing a configuration initializes.

    An option that is no key of the configuration stops the run, where MONAI would take it up as a new key that nothing
    reads. From then on an uncaught error ends with the sentence of its cause, below the traceback, and Ctrl-C with one
    line; torchrun's report has that sentence too.

    Args:
        arguments: the command line, ``sys.argv`` by default. Without ``--config_file`` in it, as when a workflow is
            made in Python, nothing is checked.

    Raises:
        ValueError: names the unknown key and the nearest known one.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not any(argument.split("=")[0].replace("-", "_") == "__config_file" for argument in arguments):
        return
    sys.excepthook = _explain
    known = _configured_keys(arguments) | set(inspect.signature(run).parameters)
    for name in _options(arguments):
        key = name.split("#")[0].split("::")[0]
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean --{near[0]}?" if near else "docs/configuration.md lists them"
            raise ValueError(f"--{name}: no key '{key}' in the configuration; expected one of its keys: {hint}")


def _options(arguments: Sequence[str]) -> list[str]:
    return [argument[2:].split("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")]


def _configured_keys(arguments: Sequence[str]) -> set[str]:
    keys: set[str] = set()
    for file in _config_files(arguments):
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))  # JSON is YAML
        keys |= {key.split("#")[0].split("::")[0] for key in content}
    return keys


def _config_files(arguments: Sequence[str]) -> list[str]:
    for position, argument in enumerate(arguments):
        if argument.replace("-", "_").startswith("__config_file"):
            value = argument.partition("=")[2] or arguments[position + 1]
            return list(yaml.safe_load(value)) if value.startswith("[") else value.split(",")
    return []


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted: a training goes on from its last finished epoch when the same line is run again")
        return
    sys.__excepthook__(kind, error, trace)
    cause = error
    while not isinstance(cause, ValueError) and cause.__cause__ is not None:
        cause = cause.__cause__
    name = "error" if isinstance(cause, ValueError) else f"error: {type(cause).__name__}"
    if cause is not error:
        print(f"\n{name}: {cause}", file=sys.stderr)
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        _tell_torchrun(Path(os.environ["TORCHELASTIC_ERROR_FILE"]), f"{name}: {cause}", isinstance(cause, ValueError))


def _tell_torchrun(file: Path, sentence: str, is_own: bool) -> None:
    """Writes what torchrun repeats for each process; it takes the earliest, in whole seconds, as the root cause.

    A process that only lost its connection to a failed one must not come first.
    """
    content = {"message": sentence, "timestamp": int(time.time()) + (0 if is_own else 2)}
    file.write_text(json.dumps(content), encoding="utf-8")
