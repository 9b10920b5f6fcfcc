"""L_Diff, the refiner's objective (HiDiff, Eqs. 11-13), in nats."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional as F

from hidiff_monai.losses.joint import JointDiceLoss
from hidiff_monai.schedulers import BernoulliScheduler

_EPSILON = 1e-6


def bernoulli_kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(B(p) || B(q)) = p log(p/q) + (1 - p) log((1 - p)/(1 - q)), elementwise, in nats.

    Args:
        p: probabilities in [0, 1], any shape.
        q: probabilities in [0, 1], same shape; kept 1e-6 away from 0 and 1 where p differs, so that the result and its
            gradient stay finite.
    """
    q = torch.where(p == q, q, q.clamp(_EPSILON, 1 - _EPSILON))
    return _relative_entropy(p, q) + _relative_entropy(1 - p, 1 - q)


def _relative_entropy(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    is_positive = p > 0
    one = torch.ones_like(p)
    safe_p, safe_q = torch.where(is_positive, p, one), torch.where(is_positive, q, one)
    return safe_p * (safe_p.log() - safe_q.log()) * is_positive


def focal_noise_loss(noise_logits: torch.Tensor, noise: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Focal loss of the noise estimate, HiDiff Eq. 12: -mean[eps (1-e)^g log e + (1-eps) e^g log(1-e)].

    Args:
        noise_logits: logit of eps_hat, any shape.
        noise: eps in {0, 1}, same shape.
        gamma: focusing exponent; 0 gives binary cross-entropy.

    Returns:
        The mean over all elements, a scalar.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(noise_logits, noise, reduction="none")
    log_error = F.logsigmoid(torch.where(noise > 0.5, -noise_logits, noise_logits))
    return ((gamma * log_error).exp() * cross_entropy).mean()


class BernoulliDiffusionLoss(nn.Module):
    """L_Diff = KL + lambda_focal focal (HiDiff, Eq. 13), from one forward pass of the refiner.

    KL compares the true posterior q(y_s | y_t, y_0, f) with the estimated one, at y0_hat = |y_t - eps_hat|, for
    s = t - 1; at t = 0 both are the masks themselves.

    Args:
        scheduler: the process that made ``sample``.
        lambda_focal: weight of the focal loss on the noise.
        gamma: its exponent.
        lambda_dice: weight of a soft Dice loss on y0_hat. 0 is the paper; above 0 the refiner is trained on what
            segmentations are judged by, which the pixelwise terms are not.
        dice_per_image: takes the Dice of each image by itself, as where it is reported as a mean over images; otherwise
            that of the mini-batch as a whole, in which large structures count most.
        joint: of several processes, takes the Dice of their joint mini-batch; all of them must call the loss alike.
    """

    def __init__(
        self,
        scheduler: BernoulliScheduler,
        lambda_focal: float = 1.0,
        gamma: float = 2.0,
        lambda_dice: float = 0.0,
        dice_per_image: bool = False,
        joint: bool = False,
    ) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.lambda_focal = lambda_focal
        self.gamma = gamma
        self.lambda_dice = lambda_dice
        self.dice = (JointDiceLoss if joint else DiceLoss)(batch=not dice_per_image)

    def forward(
        self,
        noise_logits: torch.Tensor,
        sample: torch.Tensor,
        original_samples: torch.Tensor,
        prior: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """The scalar loss.

        Args:
            noise_logits: logit of eps_hat, (B, K, *spatial).
            sample: y_t in {0, 1}, same shape.
            original_samples: y_0 in {0, 1}, same shape.
            prior: f(x) in [0, 1], same shape.
            timesteps: t, (B,), integers in [0, T).
        """
        dtype = torch.promote_types(noise_logits.dtype, torch.float32)  # half precision cannot hold the logarithms
        noise_logits, sample, original_samples, prior = (
            value.to(dtype) for value in (noise_logits, sample, original_samples, prior)
        )
        pred_original = self.scheduler.estimate_original(sample, torch.sigmoid(noise_logits))
        prev_timesteps = timesteps - 1
        true_posterior = self.scheduler.posterior(sample, original_samples, prior, timesteps, prev_timesteps)
        posterior = self.scheduler.posterior(sample, pred_original, prior, timesteps, prev_timesteps)
        loss = bernoulli_kl(true_posterior, posterior).mean()
        loss = loss + self.lambda_focal * focal_noise_loss(noise_logits, (sample - original_samples).abs(), self.gamma)
        if self.lambda_dice > 0:
            loss = loss + self.lambda_dice * self.dice(pred_original, original_samples)
        return loss
