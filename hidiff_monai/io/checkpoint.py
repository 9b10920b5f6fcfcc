"""Reading and writing weights."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hidiff_monai.io.files import write_atomically


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Writes a state so that ``path`` holds the old or the new one, never half of it.

    Raises:
        ValueError: when a tensor in it holds NaN or infinity; the old file stays.
    """
    broken = next(_non_finite_keys(state, ""), None)
    if broken is not None:
        raise ValueError(
            f"{path}: not written, {broken} holds NaN or infinity; expected finite weights: lower the learning "
            "rate, set train#trainer#max_grad_norm or turn amp off, then train into another output_dir"
        )
    with write_atomically(path) as temporary:
        torch.save(state, temporary)


def _non_finite_keys(state: Any, prefix: str) -> Iterator[str]:
    if isinstance(state, dict):
        for key, value in state.items():
            yield from _non_finite_keys(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(state, torch.Tensor) and not state.isfinite().all():
        yield prefix


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a state with ``weights_only=True``, onto the CPU.

    Raises:
        ValueError: when the file is missing, truncated or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: there is no such checkpoint; expected one that a training wrote, <output_dir>/models/model.pt: "
            "name it as checkpoint"
        )
    try:
        if not zipfile.is_zipfile(path):  # what torch.save writes is one, unless cut off
            raise EOFError("no end of the archive")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path}: is truncated or no checkpoint ({path.stat().st_size} bytes); expected a file that torch.save "
            "wrote: train again, or copy it once more"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}; expected a dictionary, as in model.pt")
    return state


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Loads a flat state dict (``model.pt``) into ``network``, strictly.

    Raises:
        ValueError: when the file cannot be read, is nested, or belongs to another architecture; names the first keys
            that differ.
    """
    state = read_checkpoint(path)
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds {sorted(state)[:5]}; expected a flat state dict of tensors, as in model.pt")
    check_architecture(network, state, str(path))
    network.load_state_dict(state)


def with_weights(network: nn.Module, path: str | Path | None) -> nn.Module:
    """A network that has taken up weights, for the expressions of a configuration; None leaves it as it is.

    Raises:
        ValueError: as `load_weights` does.
    """
    if path is not None:
        load_weights(network, path)
    return network


def with_segmentor(network: nn.Module, path: str | Path) -> nn.Module:
    """A joint network that has taken up the segmentor of a checkpoint, and whose refiner stays as it is.

    Raises:
        ValueError: when the file cannot be read, or holds another segmentor.
    """
    prefix = "segmentor."
    state = {key[len(prefix) :]: value for key, value in read_checkpoint(path).items() if key.startswith(prefix)}
    segmentor = network.get_submodule(prefix[:-1])
    check_architecture(segmentor, state, str(path))
    segmentor.load_state_dict(state)
    return network


def check_architecture(network: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Compares a flat state dict with a network, key by key and shape by shape.

    Args:
        network: the network that is to take up the state.
        state: its weights by name.
        source: where they come from, for the message.

    Raises:
        ValueError: names the first keys that are missing, too many or of another shape.
    """
    expected = network.state_dict()
    differences = [f"{key} is missing" for key in expected if key not in state]
    differences += [f"{key} is not of this network" for key in state if key not in expected]
    differences += [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if differences:
        raise ValueError(
            f"{source}: belongs to another architecture: {'; '.join(differences[:5])} ({len(differences)} differences "
            "in all): give the segmentor and refiner settings, or the override file, it was trained with"
        )
