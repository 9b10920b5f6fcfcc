"""Volumes, slice by slice, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from monai.inferers import Inferer
from tqdm import tqdm

from hidiff_monai.inferers.bernoulli import BernoulliDiffusionInferer, plain_tensor
from hidiff_monai.networks import HiDiff


class VolumeInferer(Inferer):
    """Runs a 2-D network over the last axis of a volume and keeps classes, not probabilities.

    MONAI's ``SliceInferer`` holds every map of every class in floating point until the last slice: 9 classes and
    three maps of a 512 x 512 x 150 scan are 4.2 GB. Here the most probable class of each pixel is taken while the
    slice is at hand, and a volume costs 4 bytes a voxel beside the image.

    Args:
        inferer: the 2-D inferer, with *refined*, *prior* and *entropy* among its outputs.
        batch_size: slices at once.
        progress: shows a progress bar over the slices.

    Attributes:
        on_slices: called with every mini-batch of slices before its probabilities are dropped: number of the case in
            the batch, the slices' place in it, and the 2-D inferer's maps, (slices, K, X, Y) each. None: no one looks.
    """

    def __init__(self, inferer: BernoulliDiffusionInferer, batch_size: int = 4, progress: bool = True) -> None:
        super().__init__()
        missing = sorted({"refined", "prior", "entropy"} - set(inferer.outputs))
        if missing:
            raise ValueError(f"the inferer's outputs {list(inferer.outputs)} lack {missing}: add them")
        self.inferer = inferer
        self.batch_size = batch_size
        self.progress = progress
        self.on_slices: Callable[[int, slice, dict[str, torch.Tensor]], None] | None = None

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self, inputs: torch.Tensor, network: HiDiff, *args: object, **kwargs: object
    ) -> dict[str, torch.Tensor]:
        """Volumes (B, C, X, Y, D) on any device -> maps (B, 1, X, Y, D) on the same.

        Returns:
            *refined* and *prior*: class numbers, uint8, 0 the background. *entropy*: the mean over the classes, in
            nats, float16.
        """
        inputs = plain_tensor(inputs)
        shape = (len(inputs), 1, *inputs.shape[2:])
        dtypes = {"refined": torch.uint8, "prior": torch.uint8, "entropy": torch.float16}
        results = {name: torch.zeros(shape, dtype=dtype, device=inputs.device) for name, dtype in dtypes.items()}
        device = next(network.parameters()).device
        depth = inputs.shape[-1]
        starts = range(0, depth, self.batch_size)
        for case, volume in enumerate(inputs):
            for start in tqdm(starts, desc="slices", leave=False, disable=not self.progress):
                stop = min(start + self.batch_size, depth)
                slices = volume[..., start:stop].movedim(-1, 0).to(device)
                maps = cast(dict[str, torch.Tensor], self.inferer(slices, network))
                if maps["refined"].shape[1] > 1 and not getattr(network, "exclusive", True):
                    raise ValueError(
                        f"the network's {maps['refined'].shape[1]} classes overlap (network_def#exclusive is false); "
                        "expected classes of which a voxel has one, as volumes keep class numbers"
                    )
                if self.on_slices is not None:
                    self.on_slices(case, slice(start, stop), maps)
                for name in ("refined", "prior"):
                    results[name][case, 0, ..., start:stop] = _classes(maps[name]).movedim(0, -1)
                entropy = maps["entropy"].mean(dim=1)
                results["entropy"][case, 0, ..., start:stop] = entropy.movedim(0, -1).half()
        return results


def _classes(probability: torch.Tensor) -> torch.Tensor:
    """(B, K, H, W) -> (B, H, W) uint8: the most probable class; with K = 1, foreground above 1/2."""
    if probability.shape[1] == 1:
        return (probability[:, 0] > 0.5).to(torch.uint8)
    return probability.argmax(dim=1).to(torch.uint8)
