"""The segmentor without its refiner, behind the interface of the inferer."""

from __future__ import annotations

import torch

from hidiff_monai.inferers import BernoulliDiffusionInferer
from hidiff_monai.inferers.bernoulli import binary_entropy, plain_tensor
from hidiff_monai.networks import HiDiff


class PriorInferer(BernoulliDiffusionInferer):
    """Gives the prior as *refined*, too; the refiner does not run, so this is what a case costs without it."""

    @torch.no_grad()
    def _infer(
        self, inputs: torch.Tensor, network: HiDiff, generator: torch.Generator | None
    ) -> dict[str, torch.Tensor]:
        _, prior, _ = network.predict_prior(plain_tensor(inputs))
        refined = prior.clone()  # a sliding window weights each map in its own memory
        results = {
            "refined": refined,
            "prior": prior,
            "variance": prior * (1 - prior),
            "entropy": binary_entropy(prior),
        }
        return {name: results[name] for name in self.outputs}
