"""A packed refiner as one file: 1-bit weights and tables as safetensors, and what is needed to build it around them."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, Union

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hidiff_monai.io.files import write_atomically
from hidiff_monai.networks.packed_refiner import PackedRefiner

FORMAT = "hidiff-packed-refiner"
VERSION = 1
STORAGES = {"float16": torch.float16, "float32": torch.float32}
SETTINGS = (
    "image_channels", "num_targets", "feature_channels", "feature_strides", "channels", "num_heads", "num_timesteps",
)  # fmt: skip


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and contents, whatever their order and device."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_packed(refiner: PackedRefiner, path: Union[str, Path], source: str) -> None:
    """Writes a packed refiner; the file is whole, or not there.

    Args:
        refiner: the refiner.
        path: the file, by custom ``*.safetensors``.
        source: `hash_tensors` of the trained refiner's state dict, to tell later which weights these are.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in refiner.state_dict().items()}
    header = {
        **{name: getattr(refiner, name) for name in SETTINGS},
        "storage": storage_of(refiner),
        "prior_epsilon": refiner.prior_epsilon,
        "source": source,
        "content": hash_tensors(state),
    }
    metadata = {"format": FORMAT, "version": str(VERSION), "settings": json.dumps(header)}
    with write_atomically(path) as temporary:
        save_file(state, os.fspath(temporary), metadata=metadata)


def read_packed(path: Union[str, Path]) -> PackedRefiner:
    """Reads what `write_packed` wrote, onto the CPU; ``network.refiner = read_packed(...)`` puts it into a ``HiDiff``.

    Raises:
        ValueError: when the file is missing, damaged, of another kind or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; expected one that `hidiff pack` wrote: correct the path")
    metadata, state = _read(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: holds {metadata.get('format', 'other tensors')}; expected {FORMAT}: see `hidiff pack`"
        )
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"{path}: has version {metadata.get('version')}; expected {VERSION}: pack model.pt again with this release"
        )
    try:
        settings: Dict[str, Any] = json.loads(metadata["settings"])
        is_whole = settings["content"] == hash_tensors(state)
        refiner = PackedRefiner(**{name: settings[name] for name in SETTINGS}, storage=STORAGES[settings["storage"]])
        refiner.prior_epsilon = float(settings["prior_epsilon"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: its settings are damaged ({error}); expected those written: pack again") from error
    if not is_whole:
        raise ValueError(
            f"{path}: its tensors are not those written; expected their hash: copy it again, or pack again"
        )
    try:
        refiner.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}: does not fit its own settings ({error}); expected it to: pack again") from error
    return refiner.eval()


def read_source(path: Union[str, Path]) -> str:
    """The hash of the trained weights that a packed file was made of; see `write_packed`.

    Raises:
        ValueError: when the file cannot be read.
    """
    return str(json.loads(_read(Path(path))[0].get("settings", "{}")).get("source", ""))


def storage_of(refiner: PackedRefiner) -> str:
    """ "float16" or "float32"."""
    return str(refiner.workspace.values.dtype).replace("torch.", "")


def _read(path: Path) -> Tuple[Dict[str, str], Dict[str, torch.Tensor]]:
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: is truncated or no safetensors ({path.stat().st_size} bytes, {error}); expected a file that "
            "`hidiff pack` wrote: copy it again, or pack again"
        ) from error
