"""One case from its file to maps of classes and uncertainty, in the memory that is there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from tqdm import tqdm

from hidiff_monai.inferers import BernoulliDiffusionInferer, VolumeInferer
from hidiff_monai.io.predictions import to_classes
from hidiff_monai.networks import HiDiff
from hidiff_monai.prediction.model import Model
from hidiff_monai.prediction.timing import time_call


@dataclass(frozen=True)
class CaseMaps:
    """What the network made of a case, on the grid it saw: (H, W) upright, or (X, Y, D) as `LoadScand` turned it.

    Attributes:
        image: (C, *grid) float32, as the network saw it.
        meta: of the image, for the way back to the source.
        refined: class numbers, uint8.
        prior: likewise, before the refiner.
        entropy: in nats, float32; the mean over the classes where there are several.
        seconds: of inference alone.
    """

    image: np.ndarray
    meta: dict[str, Any]
    refined: np.ndarray
    prior: np.ndarray
    entropy: np.ndarray
    seconds: float


def read_case(model: Model, item: dict[str, Any]) -> MetaTensor:
    """Reads a case as the network is to see it: (C, H, W), or (C, X, Y, D) as `LoadScand` turned it.

    Raises:
        ValueError: if its files are not what the bundle takes.
    """
    image: MetaTensor = model.preprocessing(dict(item))["image"]
    _require_modality(image.meta, model)
    return image


@torch.no_grad()
def predict_case(model: Model, image: MetaTensor) -> CaseMaps:
    """Predicts what `read_case` gave.

    Raises:
        ValueError: if it does not fit into memory one slice or window at a time.
    """
    maps, seconds = infer_case(model, image)
    pixels, meta = image.cpu().numpy(), dict(image.meta)
    if model.is_volumetric:
        refined, prior, entropy = (maps[name][0, 0].cpu().numpy() for name in ("refined", "prior", "entropy"))
        return CaseMaps(pixels, meta, refined, prior, entropy.astype(np.float32), seconds)
    refined = to_classes(maps["refined"][0], model.refined_threshold)
    prior = to_classes(maps["prior"][0], model.threshold)
    entropy = maps["entropy"][0].mean(dim=0).float().cpu().numpy()
    return CaseMaps(pixels, meta, refined, prior, entropy, seconds)


def _require_modality(meta: dict[str, Any], model: Model) -> None:
    """A network trained on CT makes a mask of an MR too, and nobody would see that it means nothing."""
    modality = meta.get("modality")
    if modality and model.modality in ("CT", "MR") and modality != model.modality:
        raise ValueError(
            f"{meta['filename_or_obj']}: a series of modality {modality}; expected {model.modality}, which "
            f"{model.bundle.name} was made for: choose another bundle or series"
        )


def infer_case(model: Model, image: MetaTensor) -> tuple[dict[str, torch.Tensor], float]:
    """The inferer's maps of a case, and the seconds that they took.

    Raises:
        ValueError: if it does not fit into memory one slice or window at a time.
    """
    batch = image[None] if model.is_volumetric else image[None].to(model.device)
    name = Path(str(image.meta["filename_or_obj"])).name
    return infer_in_memory(model.inferer, model.network, batch, model.device, name)


def infer_in_memory(
    inferer: Inferer, network: HiDiff, batch: torch.Tensor, device: torch.device, name: str
) -> tuple[dict[str, torch.Tensor], float]:
    """An inferer's maps; what does not fit is tried again in smaller batches, which are kept for the next cases.

    Args:
        inferer: gives a dictionary of maps.
        network: likewise of the bundle.
        batch: (1, C, H, W) on the device, or (1, C, X, Y, D).
        device: of the network.
        name: of the case, for messages.

    Returns:
        The maps, and the seconds of the pass that fitted.

    Raises:
        ValueError: if it does not fit into memory one slice or window at a time.
    """
    while True:
        try:
            return time_call(lambda: inferer(batch, network), device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        size = halve_batches(inferer)
        if size is None:
            raise ValueError(
                f"{name}: does not fit into the memory of {device}, one slice or window at a time; expected it "
                "to: use --device cpu, fewer --samples or a smaller image"
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        tqdm.write(f"{name}: out of memory on {device}, goes on with batches of {size}", file=sys.stderr)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error is a device's (or the CPU allocator's) way of saying so."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def halve_batches(inferer: Inferer) -> int | None:
    """Halves the slices, or windows, at once; returns the new number, or None where it was 1."""
    holder, name = _batch_of(inferer)
    if holder is None or getattr(holder, name) <= 1:
        return None
    setattr(holder, name, getattr(holder, name) // 2)
    return batch_size(inferer)


def batch_size(inferer: Inferer) -> int:
    """Slices, or windows, at once. Draws are made batch by batch, so the uncertainty depends on it a little."""
    holder, name = _batch_of(inferer)
    return 1 if holder is None else int(getattr(holder, name))


def _batch_of(inferer: Inferer) -> tuple[Any, str]:
    """What has the number of a batch, and its name there."""
    if isinstance(inferer, VolumeInferer):
        return inferer, "batch_size"
    window = inferer.window if isinstance(inferer, BernoulliDiffusionInferer) else None
    return (window if isinstance(window, SlidingWindowInferer) else None), "sw_batch_size"
