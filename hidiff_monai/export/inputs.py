"""What an artefact is tried on: the batches that a bundle's network sees of a real image, or made-up ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.inferers import Inferer
from torch.nn import functional as F

from hidiff_monai.inferers.bernoulli import plain_tensor
from hidiff_monai.networks import HiDiff
from hidiff_monai.networks.padding import pad_to_multiple
from hidiff_monai.prediction.case import read_case
from hidiff_monai.prediction.model import Model


def stride_of(network: HiDiff) -> int:
    """Images whose edges are multiples of it are padded by neither segmentor nor refiner."""
    return math.lcm(network.refiner.divisor, int(getattr(network.segmentor, "divisor", 1)))


@dataclass(frozen=True)
class Trial:
    """Batches for an artefact.

    Attributes:
        source: where they come from, in words.
        batches: (B, C, H, W) float32 each; the last has another batch size and image size than the first.
    """

    source: str
    batches: list[torch.Tensor]


def real_trial(model: Model) -> Trial:
    """The first case of a model's input as its inferer feeds the network: windows, resized, of a volume one slice."""
    case = model.items[0]
    image = read_case(model, case)
    source = str(case["id"])
    pixels = plain_tensor(image)[None].float()
    if model.is_volumetric:
        middle = pixels.shape[-1] // 2
        pixels, source = pixels[..., middle], f"{source}, slice {middle}"
    return _trial(source, _fed(pixels, model.sampling.window, model.network), model.network)


def made_up_trial(network: HiDiff) -> Trial:
    """Normal noise of a fixed seed, smoothed, so that it has something like structures."""
    size = 4 * stride_of(network)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, network.refiner.image_channels, size, size, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2) * 5
    return _trial("made-up noise (give --image for a real one)", [smooth], network)


def _trial(source: str, batches: list[torch.Tensor], network: HiDiff) -> Trial:
    """Appends two corners of the first batch, of another size."""
    rows, columns = 2 * stride_of(network), 3 * stride_of(network)
    image = _enlarge(batches[0][:1], rows, columns)
    corners = [image[:, :, :rows, :columns], image[:, :, -rows:, -columns:]]
    return Trial(source, [*batches, torch.cat(corners).contiguous()])


def _fed(image: torch.Tensor, window: Inferer | None, network: HiDiff) -> list[torch.Tensor]:
    """What an inferer calls its network with for an image."""
    batches: list[torch.Tensor] = []

    def record(batch: torch.Tensor) -> torch.Tensor:
        batches.append(plain_tensor(batch).contiguous().clone())
        return batch.new_zeros(len(batch), network.refiner.num_targets, *batch.shape[2:])

    if window is None:
        record(image)
    else:
        window(image, record)
    return batches


def fit(trial: Trial, divisor: int) -> Trial:
    """The batches padded to multiples of a divisor, from twice of it, where one is not."""
    smallest = 2 * divisor
    batches = [_enlarge(pad_to_multiple(batch, divisor), smallest, smallest) for batch in trial.batches]
    return Trial(trial.source, batches)


def _enlarge(batch: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Replicates the lower and right border where a batch is smaller."""
    missing = max(columns - batch.shape[3], 0), max(rows - batch.shape[2], 0)
    return F.pad(batch, [0, missing[0], 0, missing[1]], mode="replicate") if any(missing) else batch
