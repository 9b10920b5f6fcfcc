"""A bundle for data that nobody here has seen: a template's files, with what the data ask for and no more changed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from hidiff_monai.data import load_slices, read_datalist
from hidiff_monai.data.inspection import Findings, inspect_dataset
from hidiff_monai.io import require_writable

from .card import format_commands, write_card
from .configure import configure
from .plan import Choice, choose_settings, choose_template, estimate_time, explain_kept
from .template import Config, find_template, read_template


def write_new_bundle(
    name: str,
    datalist: str | Path,
    dataset_dir: str | Path | None = None,
    output: str | Path = "bundles",
    template: str | Path | None = None,
) -> tuple[Path, str]:
    """Looks at a data set and writes a bundle for it; a folder that is there already is never touched.

    Args:
        name: of the bundle; its folder is named after it.
        datalist: what `hidiff datalist` or `hidiff prepare` wrote.
        dataset_dir: the folder the datalist's paths are relative to; None: the datalist's own.
        output: the folder in which the bundle's is made.
        template: the bundle to start from; None: the one whose data are most alike.

    Returns:
        The bundle's folder, and what was found, chosen and comes next, to print.

    Raises:
        ValueError: if the folder is there, no template is, the data cannot be read, or no bundle suits them.
    """
    target = Path(output).expanduser() / _folder_name(name)
    if target.exists():
        raise ValueError(f"{target} exists already; expected a new folder: choose another --name, or move it away")
    file = Path(datalist).expanduser().absolute()
    root = Path(dataset_dir).expanduser().absolute() if dataset_dir else file.parent
    _require_validation(file)
    _require_images(file, root)
    findings = inspect_dataset(file, root)
    start = choose_template(findings)
    folder = find_template(start.value, template)
    if template:
        start = Choice("template", folder.name, "as you asked for")
    configs = read_template(folder)
    _require_kind(configs["train"], findings)
    num_items = _count_items(findings, file, root, configs["train"])
    choices = choose_settings(findings, configs["train"].content, num_items)
    paths = {"bundle_root": str(target.absolute()), "dataset_dir": str(root), "datalist_file": _refer_to(file, root)}
    configure(configs, name, findings, choices, paths, folder.name)
    choices = [choice for choice in choices if any(choice.key in config.content for config in configs.values())]
    choices = [start, *choices, estimate_time(configs["train"].content, num_items), *explain_kept(findings.is_volume)]
    commands = format_commands(target, file, root, findings)
    card = write_card(name, findings, choices, commands, read_datalist(file), file.parent == root)
    _write(target, folder, configs, card)
    return target, _screen(findings, choices, commands)


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[\w .,()+-]+", str(name)):
        raise ValueError(f"name '{name}'; expected letters, digits, spaces and .,()+-: it stands in configurations")
    folder = re.sub(r"\W+", "_", str(name).strip().lower()).strip("_")
    if not folder:
        raise ValueError(f"name '{name}'; expected letters or digits: they name the bundle's folder")
    return folder


def _require_validation(file: Path) -> None:
    if not read_datalist(file).get("validation"):
        raise ValueError(
            f"{file}: no case validates; expected some, on which training chooses the model: deal again, with "
            "--validation above 0"
        )


def _require_images(file: Path, root: Path) -> None:
    datalist = read_datalist(file)
    first = next((case["image"] for key in ("training", "validation", "test") for case in datalist.get(key, [])), None)
    if first is not None and not (root / first).is_file():
        raise ValueError(
            f"{root} does not hold {first}; expected the folder that {file.name}'s paths are relative to: set "
            "--dataset_dir to what `hidiff datalist` printed"
        )


def _require_kind(train: Config, findings: Findings) -> None:
    is_for_volumes = "empty_share" in train.content
    if is_for_volumes != findings.is_volume:
        kinds = {True: "volumes", False: "pictures"}
        raise ValueError(
            f"{train.file} is for {kinds[is_for_volumes]}, the data are {kinds[findings.is_volume]}; expected the "
            "same: leave --template out, or name another"
        )


def _count_items(findings: Findings, file: Path, root: Path, train: Config) -> int:
    """Slices or pictures that an epoch of the template goes through."""
    if not findings.is_volume:
        return findings.cases["training"]
    return len(load_slices(file, root, "training", train.get("empty_share")))


def _refer_to(file: Path, root: Path) -> str:
    """A datalist beside the data moves with them; an odd name would be read as an expression."""
    if not re.fullmatch(r"[\w .-]+", file.name):
        raise ValueError(f"{file.name}: expected letters, digits, spaces, dots and dashes: rename the datalist")
    return f"$@dataset_dir + '/{file.name}'" if file.parent == root else str(file)


def _write(target: Path, template: Path, configs: dict[str, Config], texts: dict[str, str]) -> None:
    """Everything below a temporary folder, which then takes the bundle's name: it is whole or not there."""
    parent = require_writable(target.parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / target.name
        files = {f"configs/{name}.json": config.format() for name, config in configs.items()}
        for path, text in {**files, **texts, "models/.gitkeep": ""}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        for path in ("LICENSE", "configs/logging.conf"):
            shutil.copyfile(template / path, folder / path)
        os.rename(folder, target)


def _screen(findings: Findings, choices: list[Choice], commands: str) -> str:
    found = [f"  {key:<26} {value}" for key, value in findings.rows()]
    chosen = [f"  {choice.key:<26} {choice.value}: {choice.reason}" for choice in choices]
    return "\n".join(["found", *found, "chosen", *chosen, "next", commands])


__all__ = ["write_new_bundle"]
