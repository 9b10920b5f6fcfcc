"""Algorithm 1 as one would write it down from the paper: what the trainer's step is compared with.

Every mini-batch, in each of the two phases, g is run once for the KL term and once more for the focal term; a network
that rests is in evaluation mode and its optimizer takes no step, but its graph is recorded all the same. Everything is
float32, in PyTorch's default layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from hidiff_monai.losses import BernoulliDiffusionLoss, DiscriminativeLoss, focal_noise_loss
from hidiff_monai.networks import HiDiff


class TwoPassStep:
    """One update of g on L_Diff, then one of f on L_Hybrid; all lambdas are 1.

    Draws y_t as ``AlternateCollaborativeTrainer`` does: equal seeds give equal losses, gradients and weights.

    Args:
        network: the joint module.
        segmentor_optimizer: optimizer of ``network.segmentor``.
        refiner_optimizer: optimizer of ``network.refiner``.
        prior_network: whose segmentor gives g its prior; None, the paper: ``network`` itself.
    """

    def __init__(
        self,
        network: HiDiff,
        segmentor_optimizer: Optimizer,
        refiner_optimizer: Optimizer,
        prior_network: HiDiff | None = None,
    ) -> None:
        self.network = network
        self.segmentor_optimizer = segmentor_optimizer
        self.refiner_optimizer = refiner_optimizer
        self.prior_network = prior_network or network
        self.discriminative_loss = DiscriminativeLoss()
        self.kl_loss = BernoulliDiffusionLoss(network.scheduler, lambda_focal=0.0)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Trains on images (B, C, H, W) and labels (B, K, H, W); gives ``loss_refiner`` and ``loss_segmentor``."""
        sample, timesteps, refiner_loss = self._update_refiner(images, labels)
        segmentor_loss = self._update_segmentor(images, labels, sample, timesteps)
        return {"loss_refiner": refiner_loss, "loss_segmentor": segmentor_loss}

    def _update_refiner(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        self.prior_network.segmentor.eval()
        self.network.refiner.train()
        _, prior, features = self.prior_network.predict_prior(images)
        prior, features = prior.detach(), [feature.detach() for feature in features]
        scheduler = self.network.scheduler
        timesteps = torch.multinomial(torch.ones(scheduler.num_train_timesteps), len(labels), replacement=True)
        sample = scheduler.add_noise(labels, prior, timesteps)
        loss = self._diffusion_loss(images, labels, sample, timesteps, prior, features)
        self.refiner_optimizer.zero_grad()
        loss.backward()
        self.refiner_optimizer.step()
        return sample, timesteps, loss.detach()

    def _update_segmentor(
        self, images: torch.Tensor, labels: torch.Tensor, sample: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        self.network.segmentor.train()
        self.network.refiner.eval()
        logits, prior, features = self.network.predict_prior(images)
        loss = self.discriminative_loss(logits, labels)
        loss = loss + self._diffusion_loss(images, labels, sample, timesteps, prior, features)
        self.segmentor_optimizer.zero_grad()
        loss.backward()
        self.segmentor_optimizer.step()
        return loss.detach()

    def _diffusion_loss(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        prior: torch.Tensor,
        features: list[torch.Tensor],
    ) -> torch.Tensor:
        refiner = self.network.refiner
        kl_loss = self.kl_loss(refiner(images, sample, prior, features, timesteps), sample, labels, prior, timesteps)
        with _statistics_kept(refiner):
            noise_logits = refiner(images, sample, prior, features, timesteps)
        return kl_loss + focal_noise_loss(noise_logits, (sample - labels).abs())


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """A second pass over the same mini-batch does not count a second time in BatchNorm's running statistics."""
    norms = [(module, module.momentum) for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum
