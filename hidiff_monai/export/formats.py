"""The three kinds of artefact, and what each writes of a network."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata

from hidiff_monai.export.inputs import stride_of
from hidiff_monai.export.plain import plain_copy
from hidiff_monai.io.quiet import quiet
from hidiff_monai.networks import HiDiff

METADATA = "metadata.json"
CONFIG = "inference.json"
NEEDED = ("onnx", "onnxscript", "onnxruntime")

Extras = Mapping[str, dict[str, Any]]


def require_onnx() -> None:
    """Refuses to go on without the optional packages.

    Raises:
        ValueError: names those that are missing, and the line that installs them.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--format onnx: {', '.join(missing)} not installed; expected {', '.join(NEEDED)}: "
            "pip install 'hidiff-monai[export]'"
        )


def write_torchscript(network: HiDiff, file: Path, extras: Extras) -> None:
    """The scripted module, with the extra files of MONAI's ``ckpt_export``: any batch, height and width.

    Args:
        network: in evaluation mode, its refiner packed or as it was trained.
        file: what is written; its ending stays as it is.
        extras: name to content; METADATA and CONFIG.
    """
    others = {name: json.dumps(content).encode() for name, content in extras.items() if name != METADATA}
    with open(file, "wb") as stream:
        save_net_with_metadata(
            torch.jit.script(copy.deepcopy(network)),  # an adapter is traced in place: the original is compared with
            stream,
            meta_values=dict(extras[METADATA]),
            more_extra_files=others,
        )


def write_program(network: HiDiff, file: Path, extras: Extras) -> None:
    """A program of ``torch.export``: any batch, multiples of the network's stride from twice of it.

    Args:
        network: in evaluation mode; its number of steps is laid down.
        file: what is written.
        extras: as of `write_torchscript`.
    """
    contents = {name: json.dumps(content) for name, content in extras.items()}
    with (
        quiet(logging.WARNING),
        open(file, "wb") as stream,
    ):  # of a path, torch wants another ending than a temporary file has
        torch.export.save(capture(network), stream, extra_files=contents)


def write_onnx(network: HiDiff, file: Path, extras: Extras) -> None:
    """An ONNX model with input *image* and output *probability*; sizes as of `write_program`.

    Args:
        network: in evaluation mode; its number of steps is laid down.
        file: what is written.
        extras: as of `write_torchscript`; they become the model's ``metadata_props``.
    """
    with quiet(logging.WARNING):
        program = torch.onnx.export(
            capture(network), (), dynamo=True, verbose=False, input_names=["image"], output_names=["probability"]
        )
    assert program is not None
    program.model.metadata_props.update({name: json.dumps(content) for name, content in extras.items()})
    program.save(str(file))


@torch.no_grad()
def capture(network: HiDiff) -> torch.export.ExportedProgram:
    """The network as a graph of plain operations, its chain unrolled."""
    divisor, channels = stride_of(network), network.refiner.image_channels
    batch = torch.export.Dim("batch", min=1)
    rows, columns = torch.export.Dim("rows", min=2), torch.export.Dim("columns", min=2)
    sizes = {0: batch, 2: divisor * rows, 3: divisor * columns}
    example = torch.zeros(2, channels, 2 * divisor, 3 * divisor)
    return torch.export.export(plain_copy(network), (example,), dynamic_shapes=(sizes,))


WRITERS: dict[str, Callable[[HiDiff, Path, Extras], None]] = {
    "ts": write_torchscript,
    "onnx": write_onnx,
    "pt2": write_program,
}
