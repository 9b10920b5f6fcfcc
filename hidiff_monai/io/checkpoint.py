"""Reading and writing weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hidiff_monai.io.files import write_atomically


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Writes a state so that ``path`` holds the old or the new one, never half of it."""
    with write_atomically(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: str | Path, fallback: str | Path | None = None) -> dict[str, Any]:
    """Reads a state with ``weights_only=True``, onto the CPU.

    Args:
        path: the file.
        fallback: a file to propose where this one cannot be read.

    Raises:
        ValueError: when the file is missing, truncated or no checkpoint; names ``fallback``.
    """
    offer = f"; the last good one is {fallback}: pass it as resume_from" if fallback else ""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such checkpoint{offer}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path}: is truncated or no checkpoint ({path.stat().st_size} bytes); expected a file that torch.save "
            f"wrote{offer or ': train again, or copy it once more'}"
        ) from error


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Loads a flat state dict (``model.pt``) into ``network``, strictly.

    Raises:
        ValueError: when the file cannot be read, is nested, or belongs to another architecture; names the first keys
            that differ.
    """
    state = read_checkpoint(path)
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds {sorted(state)[:5]}; expected a flat state dict of tensors, as in model.pt")
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
            f"{path}: belongs to another architecture: {'; '.join(differences[:5])} ({len(differences)} differences in "
            "all): use the network_def it was trained with"
        )
    network.load_state_dict(state)
