"""The training objectives of both networks."""

from hidiff_monai.losses.diffusion import BernoulliDiffusionLoss, bernoulli_kl, focal_noise_loss
from hidiff_monai.losses.discriminative import DiscriminativeLoss

__all__ = ["BernoulliDiffusionLoss", "DiscriminativeLoss", "bernoulli_kl", "focal_noise_loss"]
