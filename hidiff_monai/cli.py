"""The command ``hidiff``: verbs for what lives elsewhere in the package."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import fire

from hidiff_monai.ablation_verb import ablate
from hidiff_monai.benchmark.command import benchmark
from hidiff_monai.calibration.verb import calibrate
from hidiff_monai.compare_verb import compare
from hidiff_monai.data_verbs import datalist, prepare
from hidiff_monai.dial.verb import dial
from hidiff_monai.export.verb import export
from hidiff_monai.io.command_line import as_list, require_count, tell_torchrun
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.prediction_verb import predict, reference
from hidiff_monai.sharing.verb import publish_check


def benchmark_loader(config: str, steps: int = 8, **overrides: Any) -> None:
    """Says whether the loader keeps up with the training step: loads an epoch, then trains a few mini-batches.

    Args:
        config: a bundle's train.json.
        steps: mini-batches that are timed in each phase of the training.
        overrides: keys of the configuration as in the training, for example --dataset_dir or --num_workers.
    """
    from hidiff_monai.recipes import loading

    print(loading.benchmark_loader(config, overrides, steps).format())


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


def cross_validate(
    bundle: str,
    dataset_dir: str,
    output_dir: str,
    datalist_file: str | None = None,
    folds: tuple[str, ...] | None = None,
    **overrides: Any,
) -> None:
    """Trains and evaluates a bundle on every fold of its datalist, and all cases together; run again, it goes on.

    Args:
        bundle: the bundle's folder, for example bundles/acdc.
        dataset_dir: the folder that the datalist's paths are relative to.
        output_dir: the folder for everything that is written.
        datalist_file: a datalist with folds; the bundle's own where it is left out.
        folds: which to run, for example 0,1; all where it is left out.
        overrides: any other key of the bundle's configuration, for example --max_epochs 40.
    """
    from hidiff_monai.cross_validation import run_cross_validation

    chosen = None if folds is None else as_list(folds)
    report = run_cross_validation(bundle, dataset_dir, output_dir, datalist_file, chosen, overrides)
    if report is not None:
        print("report:", report)


def label(
    bundle: str,
    studies: str | None = None,
    output: str | None = None,
    checkpoint: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Serves a bundle to 3D Slicer, OHIF and others through MONAI Label, until it is stopped: see docs/monai_label.md.

    Args:
        bundle: the bundle's folder, for example bundles/acdc.
        studies: the images: a folder, or the address of a DICOMweb server; output/label/studies of the bundle where it
            is left out.
        output: receives what readers train, and logs; output/label of the bundle where it is left out.
        checkpoint: the weights to start from; the bundle's models/model.pt, or what its training wrote, where it is
            left out.
        host: the address to listen at; whoever reaches it can read the images.
        port: likewise.
    """
    from hidiff_monai.label.command import serve_bundle

    serve_bundle(bundle, studies, output, checkpoint, host, port)


def pack(
    bundle: str,
    output: str,
    checkpoint: str | None = None,
    storage: str = "float32",
    image_size: int | tuple[int, int] = (256, 256),
    **overrides: Any,
) -> None:
    """Packs a bundle's trained refiner into one small file: 1-bit weights and tables; prints its size and operations.

    Args:
        bundle: the bundle's folder, for example bundles/drive.
        output: the file that is written, for example refiner.safetensors.
        checkpoint: the weights; the bundle's models/model.pt, or what its training wrote, where it is left out.
        storage: of the real-valued maps between layers, float16 or float32.
        image_size: at which operations are counted: the edge of a square, or [H,W].
        overrides: any key of the bundle's inference configuration, for example --segmentor#channels [8,8,16,32,48,64].
    """
    from hidiff_monai.prediction.pack import pack_bundle

    size = tuple(image_size) if isinstance(image_size, (list, tuple)) else (image_size, image_size)
    if len(size) != 2:
        raise ValueError(f"--image_size is {image_size!r}; expected height and width: write --image_size [256,256]")
    for edge in size:
        require_count("image_size", edge)
    print(pack_bundle(bundle, str(output), checkpoint, storage, size, overrides))


def new_bundle(
    name: str, datalist: str, dataset_dir: str | None = None, output: str = "bundles", template: str | None = None
) -> None:
    """Looks at a data set of your own and writes a bundle that trains on it; says what was chosen, and why.

    Args:
        name: of the bundle, and of its folder.
        datalist: the file that `hidiff datalist` wrote.
        dataset_dir: the folder its paths are relative to; the datalist's own where it is left out.
        output: the folder in which the bundle's is made.
        template: the bundle to start from; the one whose data are most alike where it is left out.
    """
    from hidiff_monai.new_bundle import write_new_bundle

    folder, text = write_new_bundle(str(name), datalist, dataset_dir, output, template)
    print(text)
    print("bundle:", folder)


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

    for name, value in (("width", width), ("image_size", image_size), ("num_steps", num_steps)):
        require_count(name, value)
    channels = [width * factor for factor in (1, 1, 2, 2, 4, 4)]
    reports = {}
    for name, binarized in (("binarized", True), ("real-valued", False)):
        refiner = DiffusionRefiner(3, 1, (96, 192, 384, 768), channels=channels, binarized=binarized)
        reports[name] = measure(refiner, (image_size, image_size), num_steps)
    if as_json:
        print(json.dumps({name: report.to_dict() for name, report in reports.items()}, indent=2))
    else:
        print("\n\n".join(f"{name}\n{report.format()}" for name, report in reports.items()))


def env(as_json: bool = False) -> None:
    """Prints what a run depends on: versions, processor, how the packed operators run, accelerators, compiler.

    Args:
        as_json: prints one object instead of lines.
    """
    from hidiff_monai.environment import describe_environment, format_environment

    sections = describe_environment()
    print(json.dumps(sections, indent=2) if as_json else format_environment(sections))


def reproduce(dataset: str, source: str, output_dir: str, seeds: tuple[int, ...] = (0, 1, 2), **overrides: Any) -> None:
    """From a raw download to the table: prepares it, trains and scores its bundle for every seed; resumes.

    Args:
        dataset: drive, chase_db1, kvasir_seg, cvc_clinicdb, cvc_clinicdb_sequences, acdc, synapse or brats.
        source: the folder of the raw download.
        output_dir: the folder for everything that is written.
        seeds: one training each, for example 0,1,2.
        overrides: any other key of the bundle's configuration, for example --max_epochs 40.
    """
    from hidiff_monai.reproduction import run_reproduction

    print(run_reproduction(dataset, source, output_dir, as_list(seeds), overrides))


VERBS: dict[str, Callable[..., None]] = {
    "ablate": ablate,
    "benchmark": benchmark,
    "benchmark-loader": benchmark_loader,
    "calibrate": calibrate,
    "check": check,
    "compare": compare,
    "complexity": complexity,
    "cross-validate": cross_validate,
    "datalist": datalist,
    "demo": demo,
    "dial": dial,
    "env": env,
    "export": export,
    "label": label,
    "predict": predict,
    "new-bundle": new_bundle,
    "pack": pack,
    "prepare": prepare,
    "publish-check": publish_check,
    "reference": reference,
    "reproduce": reproduce,
}


def _read_text(name: str, value: str) -> str | None:
    if value == "True" or not value.strip():  # what Fire makes of an option with nothing, or "$UNSET", behind it
        raise ValueError(f"--{name} has no value; expected one behind it; a name that begins with -: --{name}=-name")
    return None if value == "None" else value


def _read_switch(name: str, value: str) -> bool:
    if value not in ("True", "False"):
        raise ValueError(f"--{name} takes no value, and got {value!r}; expected it at the end of the line")
    return value == "True"


def _take_text_as_it_is(verb: Callable[..., None]) -> None:
    """Fire makes 1.1 of 1.10, a number of 2024_10_15 and out of out#2: of folders, those would be others."""
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.annotation in ("str", "str | None"):
            is_rest = parameter.kind is parameter.VAR_POSITIONAL
            read = partial(_read_text, parameter.name)
            fire.decorators.SetParseFn(read, *([] if is_rest else [parameter.name]))(verb)
        elif parameter.annotation == "bool":
            fire.decorators.SetParseFn(partial(_read_switch, parameter.name), parameter.name)(verb)
        elif parameter.kind is not parameter.VAR_KEYWORD:  # else it would be read as a rest of text is
            fire.decorators.SetParseFn(fire.parser.DefaultParseValue, parameter.name)(verb)


fire.decorators.FIRE_METADATA = "_fire_metadata"  # else every verb's help shows it as a group of commands
for _verb in VERBS.values():
    _take_text_as_it_is(_verb)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: mistakes of the user end in one message and exit code 1, not in a traceback."""
    try:
        _refuse_unknown_options(sys.argv[1:] if arguments is None else arguments)
        result = fire.Fire(VERBS, arguments, name="hidiff")
        sys.stdout.flush()
        return result
    except BrokenPipeError:  # `hidiff ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted: run the same line again, what is complete is kept", file=sys.stderr)
        sys.exit(130)
    except (ValueError, RuntimeError) as error:
        message = find_value_error(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        tell_torchrun(f"error: {message}")
        sys.exit(1)
    except OSError as error:
        is_of_the_system = error.strerror is not None  # a library's own has a text and nothing else
        place = "" if error.filename is None else f"{error.filename}: "
        text = f"{place}{error.strerror}" if is_of_the_system else f"{type(error).__name__}: {error}"
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)


def _refuse_unknown_options(arguments: list[str]) -> None:
    """Fire would run the verb first, for minutes, and complain about the option afterwards."""
    if not arguments or arguments[0] not in VERBS:
        return
    parameters = inspect.signature(VERBS[arguments[0]]).parameters
    _refuse_surplus_words(arguments, list(parameters.values()))
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # keys of a configuration, which checks them itself
    known = [*parameters, "help"]
    for argument in arguments[1:]:
        name = _option_name(argument)
        if argument.startswith("--") and name and name not in known and name.removeprefix("no") not in known:
            options = ", ".join(f"--{option}" for option in known)
            raise ValueError(f"hidiff {arguments[0]} has no option --{name}; expected one of {options}")


def _option_name(argument: str) -> str:
    return argument[2:].split("=")[0].replace("-", "_")


def _refuse_surplus_words(arguments: list[str], parameters: list[inspect.Parameter]) -> None:
    """Words beyond those that a verb takes, options and what stands behind them aside."""
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return
    words, named, is_value = [], set(), False
    for argument in arguments[1:]:
        if argument in ("-", "--"):  # Fire's own
            break
        if argument.startswith("--"):
            named.add(_option_name(argument))
        elif not is_value and not argument.startswith("-"):
            words.append(argument)
        is_value = argument.startswith("--") and "=" not in argument
    places = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    room = len([parameter for parameter in places if parameter.name not in named])
    if len(words) > room:
        raise ValueError(
            f"hidiff {arguments[0]}: {words[room:]} is more than it takes; expected lists with commas, as in 0,1,2, "
            "and names with spaces in quotation marks"
        )
