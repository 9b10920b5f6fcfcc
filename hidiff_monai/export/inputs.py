"""What an artefact is tried on: the batches that a bundle's network sees of a real image, or made-up ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.inferers import Inferer

from hidiff_monai.inferers.bernoulli import plain_tensor
from hidiff_monai.networks import HiDiff
from hidiff_monai.networks.padding import pad_to_multiple
from hidiff_monai.prediction.case import read_case
from hidiff_monai.prediction.model import Model


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
    size = 4 * network.refiner.divisor
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, network.refiner.image_channels, size, size, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2) * 5
    return _trial("made-up noise (give --image for a real one)", [smooth], network)


def _trial(source: str, batches: list[torch.Tensor], network: HiDiff) -> Trial:
    """Appends two corners of the first batch, of another size."""
    rows, columns = 2 * network.refiner.divisor, 3 * network.refiner.divisor
    image = pad_to_multiple(batches[0][:1], rows * columns) if min(batches[0].shape[2:]) < columns else batches[0][:1]
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
    """The batches padded to multiples of a divisor, where one is not."""
    return Trial(trial.source, [pad_to_multiple(batch, divisor) for batch in trial.batches])
