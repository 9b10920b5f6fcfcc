"""Fundus-like phantoms on disk in DRIVE's own folder layout, so that the identical pipeline runs on them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from .leakage import SECTIONS
from .phantom_image import draw_phantom

SMALLEST_SIDE = 64
FORMAT_VERSION = 1  # raise it when the same parameters would draw other pixels


def write_phantoms(
    output_dir: str | Path,
    num_training: int,
    num_validation: int,
    num_test: int,
    size: tuple[int, int] = (160, 160),
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Draws phantoms and writes them with a datalist, as DRIVE does: `training/images/21_training.tif` and so on.

    Each case has a seed of its own, drawn from `seed`, its section and its place in it: asking for more cases leaves
    the earlier ones as they were. The set appears at once when it is complete; a failed run leaves nothing behind.

    Args:
        output_dir: a folder that is absent, empty, or holds the very set asked for (then nothing is drawn).
        num_training: training cases.
        num_validation: validation cases, kept in `training/` as DRIVE's would be.
        num_test: test cases.
        size: (H, W) in pixels, at least 64 each.
        seed: not negative.
        progress: shows a progress bar.

    Returns:
        The datalist, `output_dir/datalist.json`.

    Raises:
        ValueError: if an argument is out of range, or `output_dir` holds anything else.
    """
    numbers = (num_training, num_validation, num_test)
    _require_arguments(numbers, size, seed)
    parameters = {"version": FORMAT_VERSION, "cases": list(numbers), "size": list(size), "seed": seed}
    output = Path(output_dir).expanduser().absolute()
    if output.exists() and not _is_vacant(output, parameters):
        return output / "datalist.json"

    partial = output.with_name(f"{output.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        datalist = _describe(parameters)
        _write_cases(partial, datalist, size, seed, progress)
        (partial / "datalist.json").write_text(json.dumps(datalist, indent=1) + "\n", encoding="utf-8")
        if output.exists():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output / "datalist.json"


def _require_arguments(numbers: tuple[int, ...], size: tuple[int, int], seed: int) -> None:
    if min(numbers) < 0 or sum(numbers) == 0:
        raise ValueError(f"got {numbers} training, validation and test cases; expected at least 0 each and 1 in all")
    if len(size) != 2 or min(size) < SMALLEST_SIDE:
        raise ValueError(f"got size {tuple(size)}; expected (H, W) of at least {SMALLEST_SIDE}: draw larger phantoms")
    if seed < 0:
        raise ValueError(f"got seed {seed}; expected 0 or more: numpy takes no negative seed")


def _is_vacant(output: Path, parameters: dict[str, Any]) -> bool:
    """Returns True for an empty folder and False for the same set; raises ValueError for anything else."""
    if output.is_dir() and not any(output.iterdir()):
        return True
    datalist = output / "datalist.json"
    earlier = json.loads(datalist.read_text(encoding="utf-8")) if datalist.is_file() else {}
    if earlier.get("phantoms") != parameters:
        found = f"phantoms with {earlier['phantoms']}" if "phantoms" in earlier else "other files"
        raise ValueError(
            f"{output} holds {found}; expected it to be absent, empty, or phantoms with {parameters}: "
            f"name another output_dir, or remove that one yourself"
        )
    return False


def _describe(parameters: dict[str, Any]) -> dict[str, Any]:
    """The datalist of a set: test cases from 01 on, then training, then validation, all as DRIVE names them."""
    num_training, num_validation, num_test = parameters["cases"]
    ranges = {
        "training": range(num_test + 1, num_test + num_training + 1),
        "validation": range(num_test + num_training + 1, num_test + num_training + num_validation + 1),
        "test": range(1, num_test + 1),
    }
    return {
        "name": "Phantoms",
        "description": "Synthetic fundus-like images with known vessels, drawn by hidiff_monai.data.write_phantoms. "
        "For trying the software; a score on them says nothing about patients.",
        "reference": "none: synthetic",
        "licence": "CC0-1.0",
        "phantoms": parameters,
        "channels": 3,
        "label_values": {"0": 0, "255": 1},
        "label_names": ["vessel"],
        **{section: [_name_files(section, number) for number in ranges[section]] for section in SECTIONS},
    }


def _name_files(section: str, number: int) -> dict[str, str]:
    folder, name = "test" if section == "test" else "training", f"{number:02d}"
    return {
        "id": name,
        "patient": name,
        "image": f"{folder}/images/{name}_{folder}.tif",
        "label": f"{folder}/1st_manual/{name}_manual1.gif",
        "region": f"{folder}/mask/{name}_{folder}_mask.gif",
    }


def _write_cases(root: Path, datalist: dict[str, Any], size: tuple[int, int], seed: int, progress: bool) -> None:
    places = [(part, place) for part, name in enumerate(SECTIONS) for place in range(len(datalist[name]))]
    for part, place in tqdm(places, desc="Drawing phantoms", unit="case", disable=not progress):
        case = datalist[SECTIONS[part]][place]
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(part, place)))
        phantom = draw_phantom(generator, size)
        for key in ("image", "label", "region"):
            (root / case[key]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.image).save(root / case["image"])
        _write_mask(phantom.label, root / case["label"])
        _write_mask(phantom.region, root / case["region"])


def _write_mask(mask: np.ndarray, file: Path) -> None:
    # Unoptimised, so that the GIF keeps the full grey palette: every reader then sees {0, 255}, as in DRIVE.
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, optimize=False)
