"""The segmentor without its refiner, behind the interface of the inferer."""

from __future__ import annotations

import torch

from hidiff_monai.inferers import BernoulliDiffusionInferer
from hidiff_monai.networks import HiDiff


class PriorInferer(BernoulliDiffusionInferer):
    """Gives the prior as *refined*, too; the refiner does not run, so this is what a case costs without it."""

    def _infer_one(
        self, inputs: torch.Tensor, network: HiDiff, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        _, prior, _ = network.predict_prior(inputs)
        return prior[None], prior[None], prior[None]
