"""The command ``hidiff``: verbs for what lives elsewhere in the package."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

import fire


def check(datalist: str, dataset_dir: str, as_json: bool = False) -> None:
    """Checks every image and label of a data set before training; exits with 1 where there is a problem.

    Args:
        datalist: the datalist file, for example data_lists/drive.json.
        dataset_dir: the folder its paths are relative to.
        as_json: prints a list of objects instead of a line per problem.
    """
    from hidiff_monai.data import check_dataset, count_cases

    problems = check_dataset(datalist, dataset_dir)
    if as_json:
        print(json.dumps([dataclasses.asdict(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print(problem)
        print(f"{len(problems)} problem(s) found in {count_cases(datalist)} cases of {dataset_dir}")
    if problems:
        sys.exit(1)


def demo(output: str = "demo_report", data: str | None = None, seed: int = 0) -> None:
    """Trains, refines, evaluates and explains on phantoms, or on DRIVE; writes a report.

    Args:
        output: folder for everything that is written.
        data: a DRIVE folder; phantoms are drawn where it is left out.
        seed: seed of phantoms, training and sampling.
    """
    from hidiff_monai.demo import run_demo

    print("report:", run_demo(output, data, seed))


def complexity(width: int = 128, image_size: int = 256, num_steps: int = 10, as_json: bool = False) -> None:
    """Counts parameters, bytes and operations of the paper's refiner, binarized and real-valued.

    Args:
        width: channels at full resolution; the six levels have width * (1, 1, 2, 2, 4, 4).
        image_size: edge of the square image in pixels.
        num_steps: T.
        as_json: prints one object with both counts instead of two tables.
    """
    from hidiff_monai.metrics import complexity as measure
    from hidiff_monai.networks import DiffusionRefiner

    channels = [width * factor for factor in (1, 1, 2, 2, 4, 4)]
    reports = {}
    for name, binarized in (("binarized", True), ("real-valued", False)):
        refiner = DiffusionRefiner(3, 1, (96, 192, 384, 768), channels=channels, binarized=binarized)
        reports[name] = measure(refiner, (image_size, image_size), num_steps)
    if as_json:
        print(json.dumps({name: report.to_dict() for name, report in reports.items()}, indent=2))
    else:
        print("\n\n".join(f"{name}\n{report.format()}" for name, report in reports.items()))


VERBS: dict[str, Callable[..., None]] = {"check": check, "complexity": complexity, "demo": demo}


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: mistakes of the user end in one message and exit code 1, not in a traceback."""
    try:
        _refuse_unknown_options(sys.argv[1:] if arguments is None else arguments)
        return fire.Fire(VERBS, arguments, name="hidiff")
    except (ValueError, RuntimeError) as error:
        message = _find_message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def _refuse_unknown_options(arguments: list[str]) -> None:
    """Fire would run the verb first, for minutes, and complain about the option afterwards."""
    if not arguments or arguments[0] not in VERBS:
        return
    known = [*inspect.signature(VERBS[arguments[0]]).parameters, "help"]
    for argument in arguments[1:]:
        name = argument[2:].split("=")[0].replace("-", "_")
        if argument.startswith("--") and name and name not in known and name.removeprefix("no") not in known:
            options = ", ".join(f"--{option}" for option in known)
            raise ValueError(f"hidiff {arguments[0]} has no option --{name}; expected one of {options}")


def _find_message(error: BaseException | None) -> BaseException | None:
    """The first ValueError in a chain of causes: MONAI wraps what a configuration raises."""
    while error is not None and not isinstance(error, ValueError):
        error = error.__cause__
    return error
