"""A bundle's training and evaluation as processes of their own, resumable: what cross-validation and seeds repeat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from hidiff_monai.io import hash_file, write_atomically
from hidiff_monai.io.command_line import describe_overrides

SETTINGS = "settings.json"
WHEREABOUTS = ("bundle_root", "dataset_dir", "datalist_file", "num_workers", "device")  # no figure depends on them
OWN = {"section", "evaluation_dir", "output_dir", "model_dir", "resume_from", "checkpoint"}  # a run sets them itself
FITTED = {"temperature": 1.0, "threshold": 0.5}  # to a bundle's weights, on its validation cases; and what is neutral
BUNDLES = Path(__file__).resolve().parent.parent / "bundles"


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle: that one, or the one of this name in bundles/ of the checkout.

    Raises:
        ValueError: if there is neither.
    """
    given = Path(str(name)).expanduser()
    for folder in (given, BUNDLES / str(name)):
        if (folder / "configs").is_dir():
            return folder.resolve()
    known = sorted(folder.name for folder in BUNDLES.glob("*") if (folder / "configs").is_dir())
    raise ValueError(f"{given} is no bundle's folder; expected one with configs/, or one of {known}: name it")


def name_bundle(name: str | Path) -> Path:
    """What a user calls a bundle: a path that is there as it is, else as `find_bundle`."""
    given = Path(str(name)).expanduser()
    return given if given.exists() else find_bundle(name)


def find_config(bundle: Path, name: str) -> str:
    """The path of ``configs/<name>.json``.

    Raises:
        ValueError: if the bundle has none.
    """
    file = bundle / "configs" / f"{name}.json"
    if not file.is_file():
        raise ValueError(f"{file} is missing; expected the folder of a bundle: name one, such as bundles/drive")
    return str(file)


def find_datalist(bundle: Path, overrides: dict[str, Any]) -> Path:
    """The bundle's own datalist, with ``bundle_root`` and ``dataset_dir`` of the overrides."""
    parser = ConfigParser()
    parser.read_config(find_config(bundle, "train"))
    parser.update({key: str(overrides[key]) for key in ("bundle_root", "dataset_dir")})
    return Path(parser.get_parsed_content("datalist_file"))


def train_and_evaluate(bundle: Path, folder: Path, overrides: dict[str, Any]) -> Path:
    """Trains into a folder, or goes on there, and scores its test cases; what is complete is kept.

    Args:
        bundle: the bundle's folder.
        folder: receives all that both write.
        overrides: keys of the bundle's configuration and their values.

    Returns:
        The folder of the evaluation.

    Raises:
        ValueError: if the training or the evaluation fails, or the folder is of other settings.
    """
    evaluation = folder / "evaluation_test"
    told = require_same_run(bundle, folder, overrides)
    if is_evaluated(evaluation):
        return evaluation
    settings = {**overrides, "bundle_root": bundle, "output_dir": folder}
    train, evaluate = find_config(bundle, "train"), find_config(bundle, "evaluate")
    keep_settings(folder / SETTINGS, told)
    run_bundle("training", [train], for_training(settings, train, evaluate))
    run_bundle("run", [train, evaluate], settings)
    return evaluation


def require_same_run(bundle: Path, folder: Path, overrides: dict[str, Any]) -> Any:
    """Runs that are put together are of one bundle and have the same settings, which a training that has saved
    something is bound to.

    Args:
        bundle: the bundle's folder.
        folder: of the run; it need not be there.
        overrides: of `train_and_evaluate`.

    Returns:
        What figures depend on, for `keep_settings`.

    Raises:
        ValueError: if the folder is of another bundle or other settings, or a key is none of the user's.
    """
    fixed = sorted(OWN & overrides.keys())
    if fixed:
        raise ValueError(f"got {fixed}; expected none of these here, where each run has its own: leave them out")
    told = describe_overrides({key: value for key, value in overrides.items() if key not in WHEREABOUTS})
    of_bundle: dict[str, Any] = {
        "bundle": bundle.name,
        "config_sha256": [hash_file(Path(find_config(bundle, name))) for name in ("train", "evaluate")],
        "files_sha256": {key: hash_file(Path(overrides[key])) for key in told if _is_file(overrides[key])},
    }
    saved = (*(folder / "resume").glob("resume_*.pt"), *(folder / "models").glob("*.pt"))
    is_complete = is_evaluated(folder / "evaluation_test")
    if (folder / SETTINGS).is_file() and (saved or is_complete):
        mend = f"give it again, or remove {folder.name} or name another output_dir"
        known = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if is_complete:  # a file of a complete run may be gone
            of_bundle["files_sha256"] = {**known.get("files_sha256", {}), **of_bundle["files_sha256"]}
        facts = {**told, **{key: value for key, value in of_bundle.items() if key in known}}  # not told at first
        refuse_other_settings(folder / SETTINGS, facts, f"expected the same in all runs that are put together: {mend}")
    return {**told, **of_bundle}


def _is_file(value: Any) -> bool:
    """A word may be called like a file that happens to be there; an expression may be too long for a name."""
    return isinstance(value, str | Path) and bool(Path(value).suffix or os.sep in str(value)) and os.path.isfile(value)


def require_seeds(seeds: Sequence[Any]) -> None:
    """Raises ValueError unless there are some, whole numbers, each once."""
    are_whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if not seeds or not are_whole or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds are {list(seeds)}; expected whole numbers, each once, with commas between them, such as 0,1,2"
        )


def keep_settings(file: Path, facts: Mapping[str, Any]) -> None:
    """Writes down what figures depend on."""
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def refuse_other_settings(file: Path, facts: Mapping[str, Any], expected: str) -> None:
    """Compares with what `keep_settings` wrote.

    Raises:
        ValueError: if they differ; it names the first key that does, and what is expected.
    """
    known = json.loads(file.read_text(encoding="utf-8"))
    different = sorted(key for key in facts.keys() | known.keys() if facts.get(key) != known.get(key))
    if different:
        key = different[0]
        raise ValueError(
            f"{file}: the rows there have {key} {known.get(key)!r}, now it is {facts.get(key)!r}; {expected}"
        )


def for_training(settings: dict[str, Any], train: str, evaluate: str) -> dict[str, Any]:
    """The settings without keys of the evaluation alone, which a training would refuse.

    Args:
        settings: keys of either configuration and their values.
        train: the file of the training's.
        evaluate: of the evaluation's.
    """
    own = ConfigParser.load_config_file(evaluate).keys() - ConfigParser.load_config_file(train).keys()
    return {key: value for key, value in settings.items() if key.split("#")[0] not in own}


def is_evaluated(evaluation_dir: Path) -> bool:
    """Whether an evaluation is complete: its report is the last file that it writes."""
    return (evaluation_dir / "index.html").is_file()


@contextmanager
def _ending_as_exception() -> Iterator[None]:
    """SIGTERM as an exception: whoever ends this process ends those it started, which would write beside the next."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_bundle(run_id: str, config_files: Sequence[str], settings: dict[str, Any]) -> None:
    """``monai.bundle run`` in a process of its own: every run starts from the same state and gives its memory back.

    Args:
        run_id: the key that is run, "training" or "run".
        config_files: later ones override earlier ones.
        settings: keys of the configuration and their values, *output_dir* among them.

    Raises:
        ValueError: if the process fails.
    """
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(list(config_files))]
    for key, value in settings.items():
        is_plain = isinstance(value, (str, Path))
        command += [f"--{key}", str(value) if is_plain else repr(value)]  # Fire reads Python's spelling
    with _ending_as_exception():
        code = subprocess.run(command, check=False).returncode  # which ends the process where an exception passes
    if code:
        raise ValueError(
            f"{settings['output_dir']}: {run_id} ended with exit code {code}; the lines above say why: mend it and run "
            "the same line again, what is complete is kept"
        )
