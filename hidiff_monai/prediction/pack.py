"""A bundle's trained refiner, packed into a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hidiff_monai.io import load_weights
from hidiff_monai.networks import HiDiff
from hidiff_monai.networks.packed_complexity import packed_complexity
from hidiff_monai.networks.packed_file import STORAGES, hash_tensors, write_packed
from hidiff_monai.prediction.model import build_part, find_checkpoint, parse_config, read_config


def load_network(
    bundle: str | Path, checkpoint: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> HiDiff:
    """A bundle's network with its weights, on the CPU, in evaluation mode.

    Args:
        bundle: the bundle's folder.
        checkpoint: the weights; None for those that `load_model` takes.
        overrides: keys of ``configs/inference.json``.

    Raises:
        ValueError: if a file or a key is missing or wrong.
    """
    folder = Path(bundle).expanduser().absolute()
    config = read_config(folder, "inference.json")
    file = find_checkpoint(folder, checkpoint)
    keys = {**(overrides or {})}
    parser = parse_config(config, keys, {"bundle_root": str(folder), "device": torch.device("cpu")})
    network = build_part(parser, "network", keys)
    load_weights(network, file)
    return network.eval()


def pack_bundle(
    bundle: str | Path,
    output: str | Path,
    checkpoint: str | Path | None = None,
    storage: str = "float32",
    image_size: tuple[int, int] = (256, 256),
    overrides: Mapping[str, Any] | None = None,
) -> str:
    """Writes the packed refiner of a bundle.

    Args:
        bundle: the bundle's folder.
        output: the file that is written.
        checkpoint: the weights; None for those that `load_model` takes.
        storage: "float16" or "float32", see `PackedRefiner`.
        image_size: (H, W) at which operations are counted.
        overrides: keys of ``configs/inference.json``.

    Returns:
        Three lines: file and size, operations per step, and beside the real-valued twin.

    Raises:
        ValueError: if the bundle cannot be loaded, its refiner is real-valued, or the storage is unknown.
    """
    if storage not in STORAGES:
        raise ValueError(f"--storage {storage}; expected one of {[*STORAGES]}")
    network = load_network(bundle, checkpoint, overrides)
    packed = network.compile_inference(STORAGES[storage]).refiner
    cost = packed_complexity(packed, image_size)  # type: ignore[arg-type]
    file = Path(output).expanduser()
    write_packed(packed, file, hash_tensors(network.refiner.state_dict()))  # type: ignore[arg-type]
    size, step = file.stat().st_size, cost.per_step
    real_size = sum(parameter.numel() * 4 for parameter in network.refiner.parameters())
    height, width = image_size
    lines = (
        f"{file}: {size / 1e6:.3f} MB; the trained refiner in float32: {real_size / 1e6:.3f} ({real_size / size:.1f}x)",
        f"per step at {height} x {width}: {step.total:.4g} operations = {step.real:.4g} real multiply-adds + "
        f"{step.binary:.4g} binary ones / 64",
        f"the real-valued twin: {cost.real_twin.total:.4g} ({cost.ratio:.1f}x); counts, not a running time",
    )
    return "\n".join(lines)
