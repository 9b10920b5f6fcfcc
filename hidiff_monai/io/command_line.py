"""What Fire's and MONAI's command lines leave unsaid: lists, keys that no configuration has, and why a run ended."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser, run
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

READ_AS_TEXT = {"true": "True", "false": "False", "null": "'$None'"}  # and what is meant
_QUOTED = re.compile(r"""(['"])(~?/[^'"]*)\1""")  # an absolute path in an expression


def guard_command_line(arguments: Sequence[str] | None = None) -> None:
    """Makes mistakes visible in a run of ``python -m monai.bundle``: the first thing a configuration initializes.

    An option that is no key of the configuration stops the run, where MONAI would take it up as a new key that nothing
    reads; so do ``true``, ``false`` and ``null``, which MONAI takes for text: a false would count as true; and a
    ``None``, which it leaves out: the configuration's value would stand. From then on an uncaught error ends with the
    sentence of its cause, below the traceback, and Ctrl-C with one line; torchrun's report has that sentence too.

    Args:
        arguments: the command line, ``sys.argv`` by default. Without ``--config_file`` in it, as when a workflow is
            made in Python, nothing is checked.

    Raises:
        ValueError: names the unknown key and the nearest known one, how a value is spelt, or what ``--tracking`` needs.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not any(argument.split("=")[0].replace("-", "_") == "__config_file" for argument in arguments):
        return
    sys.excepthook = _explain
    options = _options(arguments)
    require_known_options([name for name, _ in options], _config_files(arguments), dict(options).get("tracking"))
    for name, value in options:
        is_key = name not in inspect.signature(run).parameters
        if value in READ_AS_TEXT:
            raise ValueError(f"--{name} {value} would be read as text; expected {READ_AS_TEXT[value]}")
        if is_key and value == "None":
            raise ValueError(f"--{name} None would be left out; expected an expression, in quotes: --{name} '$None'")


def require_known_options(
    names: Iterable[str], config_files: Sequence[str | Path], tracking: str | None = None
) -> None:
    """Every option of a run of ``monai.bundle`` is its own, or a key of the configuration.

    Args:
        names: the options, without their dashes.
        config_files: later ones override earlier ones.
        tracking: the value of that option, which brings keys of its own.

    Raises:
        ValueError: names the unknown key and the nearest known one.
    """
    content = ConfigParser.load_config_files([str(file) for file in config_files]) | _tracking_keys(tracking)
    for name in names:
        if name not in inspect.signature(run).parameters:
            require_known_key(name, content)


def as_list(value: Any) -> list[Any]:
    """What Fire made of ``1,2``, a tuple or a list, or of ``1``, which it gives as it is."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def describe_overrides(overrides: Mapping[str, Any]) -> Any:
    """As JSON values, with the last part alone of what is a path of this machine: the file may be published."""
    return _without_folders(json.loads(json.dumps(dict(overrides), default=str)))


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    path = os.path.expanduser(value)
    if os.path.isabs(path) or os.path.exists(path):
        return Path(path).name or value
    return _QUOTED.sub(lambda match: f"{match[1]}{Path(match[2]).name}{match[1]}", value)


def require_known_key(name: str, content: Any) -> None:
    """Every part of ``train#trainer#amp`` is there, but the last of several: that may be a new argument.

    It may not be all but equal to a key that is there, like ``chanels``.

    Args:
        name: the option, without its dashes.
        content: the configuration.

    Raises:
        ValueError: names the unknown part and the nearest known one.
    """
    parts = name.replace("::", "#").split("#")
    for number, part in enumerate(parts):
        known = _keys_of(content)
        is_new = 0 < number == len(parts) - 1
        near = difflib.get_close_matches(part, known, n=1, cutoff=0.9 if is_new else 0.6)
        if part not in known and (near or not is_new):
            mend = f"did you mean --{'#'.join([*parts[:number], near[0], *parts[number + 1 :]])}?" if near else ""
            where = f"'{'#'.join(parts[:number])}'" if number else "the configuration"
            raise ValueError(
                f"--{name}: no key '{part}' in {where}; expected one of its keys: "
                f"{mend or 'docs/configuration.md lists them'}"
            )
        if number < len(parts) - 1:
            content = content[part if isinstance(content, dict) else int(part)]


def _tracking_keys(tracking: str | None) -> dict[str, Any]:
    """The keys that MONAI adds to a configuration whose experiment is tracked."""
    if tracking is None:
        return {}
    settings: dict[str, Any] = DEFAULT_EXP_MGMT_SETTINGS
    if tracking not in settings:
        return dict(ConfigParser.load_config_files(tracking)["configs"])
    missing = [name for name in ("mlflow", "sqlalchemy") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f'--tracking {tracking} needs {" and ".join(missing)}: pip install "hidiff-monai[tracking]"')
    return dict(settings[tracking]["configs"])


def _keys_of(content: Any) -> list[str]:
    if isinstance(content, dict):
        return list(content)
    return [str(number) for number in range(len(content))] if isinstance(content, list) else []


def _options(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Name and value of each; a value that stands by itself follows its name."""
    options = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith("--"):
            name, is_joined, value = argument[2:].partition("=")
            options.append((name.replace("-", "_"), value if is_joined else following))
    return options


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
    sentence = describe_lost_process(cause) or f"{name}: {cause}"
    if cause is not error:
        print(f"\n{sentence}", file=sys.stderr)
    tell_torchrun(sentence, isinstance(cause, ValueError))


def describe_lost_process(error: BaseException) -> str | None:
    """What it means when gloo or NCCL fails in the middle of a run; None where an error is another one."""
    if not (isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)):
        return None
    first = str(error).strip().partition("\n")[0]
    return (
        f"error: another process is lost ({first[:200]}): torchrun's report says which, if it "
        "was killed or failed; a training goes on from its last finished epoch when the same line is run again"
    )


def tell_torchrun(sentence: str, is_own: bool = True) -> None:
    """Writes what torchrun repeats for each process, where it started this one.

    It takes the earliest, in whole seconds, as the root cause: a process that only lost its connection to a failed one
    must not come first.

    Args:
        sentence: why this process ends.
        is_own: whether the cause is this process's own.
    """
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        content = {"message": sentence, "timestamp": int(time.time()) + (0 if is_own else 2)}
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(content), encoding="utf-8")


def require_count(name: str, value: Any) -> None:
    """Raises ValueError that names the option unless its value is a whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"--{name} is {value!r}; expected a whole number from 1 on")
