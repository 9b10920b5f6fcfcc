"""`hidiff dial`: every setting over the cases, and from the rows a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hidiff_monai import __version__
from hidiff_monai.bundle_runs import find_config
from hidiff_monai.dial.grid import make_grid
from hidiff_monai.dial.measure import measure_setting
from hidiff_monai.dial.overrides import require_free
from hidiff_monai.dial.results import Content, DialResults
from hidiff_monai.dial.subject import Subject, load_subject
from hidiff_monai.environment import read_processor
from hidiff_monai.io import hash_file, require_writable, write_atomically
from hidiff_monai.io.command_line import describe_overrides
from hidiff_monai.prediction.dial_file import DIAL_FILE, DIAL_PICTURE
from hidiff_monai.prediction.model import sampling_of
from hidiff_monai.prediction.sampler import SamplerSetting
from hidiff_monai.report.dial_chart import DialPoint, dial_chart, pareto_front


def run_dial(
    bundle: str | Path,
    dataset_dir: str | Path,
    datalist_file: str | Path | None = None,
    section: str = "validation",
    checkpoint: str | Path | None = None,
    output: str | Path | None = None,
    steps: Sequence[int] | None = None,
    samples: Sequence[int] | None = None,
    samplers: Sequence[str] | None = None,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> str:
    """Measures every setting that is not measured yet; writes ``dial.json`` and ``dial.png``.

    Args:
        bundle: the bundle's folder.
        dataset_dir: see `load_subject`, as ``datalist_file``, ``section``, ``checkpoint``, ``device``, ``overrides``.
        datalist_file: likewise.
        section: likewise.
        checkpoint: likewise.
        output: the folder for both files; None for ``docs/`` of the bundle.
        steps: see `make_grid`, as ``samples`` and ``samplers``.
        samples: likewise.
        samplers: likewise.
        device: likewise.
        overrides: likewise.

    Returns:
        A table of all that the file holds, and the places of the files.

    Raises:
        ValueError: if something is missing or wrong, an override is the verb's own, or the output holds a measurement
            of something else.
    """
    require_free(overrides or {})
    subject = load_subject(bundle, dataset_dir, datalist_file, section, checkpoint, device, overrides)
    grid = make_grid(subject.network.scheduler.num_train_timesteps, steps, samples, samplers)
    folder = require_writable(subject.bundle / "docs" if output is None else Path(str(output)).expanduser())
    results = DialResults(folder / DIAL_FILE, describe_subject(subject, section, overrides or {}))
    missing = [setting for setting in grid if setting not in results.rows]
    with tqdm(total=len(missing) * len(subject.items), unit="case") as bar:
        for setting in missing:
            bar.set_description(setting.describe())
            results.add(measure_setting(subject, setting, lambda: bar.update(1)))
    rows = results.ordered
    title = f"{subject.bundle.name}: {len(subject.items)} {section} cases, {describe_machine(results.facts)}"
    with write_atomically(folder / DIAL_PICTURE) as temporary:
        temporary.write_bytes(dial_chart(as_points(rows), title))
    return "\n".join([title, format_rows(rows), f"{folder / DIAL_FILE}", f"{folder / DIAL_PICTURE}"])


def describe_subject(subject: Subject, section: str, overrides: Mapping[str, Any]) -> Content:
    """What Dice and seconds depend on, as JSON values; paths are left out, the file may be published."""
    is_cuda = subject.device.type == "cuda"
    configs = [Path(find_config(subject.bundle, name)) for name in ("train", "evaluate")]
    return {
        "bundle": subject.bundle.name,
        "section": section,
        "targets": subject.targets,
        "checkpoint_sha256": hash_file(subject.checkpoint),
        "data_sha256": subject.hash_data(),
        "config_sha256": [hash_file(config) for config in configs],
        "overrides": describe_overrides(overrides),
        "flip_axes": sampling_of(subject.inferer).flip_axes,
        "refiner": subject.refiner,
        "device": torch.cuda.get_device_name(subject.device) if is_cuda else subject.device.type,
        "cpu": read_processor().model,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "hidiff_monai": __version__,
    }


def describe_machine(facts: Mapping[str, Any]) -> str:
    """Where the seconds were measured, in a line."""
    threads = "1 thread" if facts["threads"] == 1 else f"{facts['threads']} threads"
    where = f"{facts['cpu']}, {threads}" if facts["device"] == "cpu" else str(facts["device"])
    return f"{where}, refiner {facts['refiner']}"


def as_points(rows: Sequence[Mapping[str, Any]]) -> list[DialPoint]:
    """The rows of the file for the picture."""
    points = []
    for row in rows:
        setting = SamplerSetting.from_dict(dict(row))
        steps = f"{setting.steps}" if setting.sampler == "hard" else f"{setting.steps} × {setting.samples}"
        label = "prior" if setting.is_prior else steps
        points.append(DialPoint(setting.sampler, label, row["seconds_median"], row["dice_mean"]))
    return points


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a setting; a star where no other is at least as good in less time."""
    front = pareto_front(as_points(rows))
    prior = next((row["dice_mean"] for row in rows if row["sampler"] == "prior"), None)
    names = [SamplerSetting.from_dict(dict(row)).describe() for row in rows]
    width = max(map(len, names))
    lines = [f"  {'setting':<{width}}  Dice %            gain    seconds a case"]
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        sd = "" if row["dice_sd"] is None else f" ± {100 * row['dice_sd']:.2f}"
        gain = "" if prior is None else f"{100 * (row['dice_mean'] - prior):+.2f}"
        star = "*" if number in front else " "
        dice = f"{100 * row['dice_mean']:.2f}{sd}"
        lines.append(f"{star} {name:<{width}}  {dice:<16}  {gain:>6}  {row['seconds_median']:8.3f}")
    lines.append(
        f"Dice: mean ± sd over {rows[0]['n']} cases; gain: over the prior, points; seconds: median of inference alone, "
        "without the chains for the uncertainty; *: nothing as good is faster"
    )
    return "\n".join(lines)
