"""The Gaussian counterpart of the Bernoulli diffusion: the same refiner, losses and loops around another kernel.

Masks are coded as x_0 = 2 y_0 - 1 in {-1, 1}; q(x_t | x_0) = N(sqrt(abar_t) x_0, 1 - abar_t), with the abar of the
Bernoulli process. As in Gaussian diffusion models for segmentation the noise knows nothing of the prior: x_T is drawn
from N(0, 1), and the prior reaches the refiner as a condition only (HiDiff, Sec. III-E.1; Ho et al., NeurIPS 2020).
"""

from __future__ import annotations

import torch

from hidiff_monai.losses import BernoulliDiffusionLoss
from hidiff_monai.losses.diffusion import focal_noise_loss
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler


class GaussianScheduler(BernoulliScheduler):
    """Forward process, posterior and reverse steps of a Gaussian diffusion over masks, with the Bernoulli one's abar.

    Samples are real-valued, masks hold 0 and 1, priors and estimates lie in [0, 1]; all are (B, K, *spatial).
    """

    def marginal(self, original_samples: torch.Tensor, prior: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Mean of q(x_t | x_0) = sqrt(abar_t) (2 y_0 - 1); the prior has no part in it."""
        return self.alpha_bar(timesteps, original_samples).sqrt() * (2 * original_samples - 1)

    def add_noise(
        self,
        original_samples: torch.Tensor,
        prior: torch.Tensor,
        timesteps: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Draws x_t from q(x_t | x_0), real-valued."""
        mean = self.marginal(original_samples, prior, timesteps)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + (1 - self.alpha_bar(timesteps, original_samples)).sqrt() * noise

    def posterior(
        self,
        sample: torch.Tensor,
        original_samples: torch.Tensor,
        prior: torch.Tensor,
        timesteps: torch.Tensor,
        prev_timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """Mean of q(x_s | x_t, x_0) for s < t; at s = -1 x_0 itself.

        Args:
            sample: x_t, (B, K, *spatial).
            original_samples: y_0 in {0, 1}, or its estimate in [0, 1], same shape.
            prior: not used.
            timesteps: t, (B,), integers in [0, T).
            prev_timesteps: s, (B,), integers in [-1, t).
        """
        alpha_bar, alpha_bar_prev = self.alpha_bar(timesteps, sample), self.alpha_bar(prev_timesteps, sample)
        keep = alpha_bar / alpha_bar_prev
        of_mask = alpha_bar_prev.sqrt() * (1 - keep) * (2 * original_samples - 1)
        return (of_mask + keep.sqrt() * (1 - alpha_bar_prev) * sample) / (1 - alpha_bar)

    def estimate_original(self, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
        """y0_hat, which is what the `GaussianRefiner` gives."""
        return model_output

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        prior: torch.Tensor,
        prev_timestep: int,
        sampler: str = "ddim",
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One reverse step from x_t to x_s.

        - ``"ddpm"``: draws from q(x_s | x_t, y0_hat).
        - ``"ddim"`` and ``"hard"``: keeps the noise that x_t and y0_hat imply, without any draw (Song et al., ICLR
          2021, eta = 0); ``"hard"`` rounds y0_hat to a mask first.

        Args:
            model_output: y0_hat, (B, K, *spatial), in [0, 1].
            timestep: t in [0, T).
            sample: x_t, same shape.
            prior: not used.
            prev_timestep: s in [-1, t); -1 for the last step, which returns y0_hat.
            sampler: one of ``SAMPLERS``.
            generator: source of the draw; the global one when None.

        Returns:
            (x_s, y0_hat), each of the shape of ``sample``.

        Raises:
            ValueError: as ``BernoulliScheduler.step`` does.
        """
        self._check_step(timestep, prev_timestep, sampler)
        self._check_shapes(sample, model_output)
        if prev_timestep == -1:
            return model_output, model_output
        t = torch.full([len(sample)], timestep, dtype=torch.long, device=sample.device)
        s = torch.full([len(sample)], prev_timestep, dtype=torch.long, device=sample.device)
        alpha_bar, alpha_bar_prev = self.alpha_bar(t, sample), self.alpha_bar(s, sample)
        if sampler == "ddpm":
            variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_prev)
            noise = torch.randn(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
            return self.posterior(sample, model_output, prior, t, s) + variance.sqrt() * noise, model_output
        mask = (model_output > 0.5).to(sample.dtype) if sampler == "hard" else model_output
        noise = (sample - alpha_bar.sqrt() * (2 * mask - 1)) / (1 - alpha_bar).sqrt()
        return alpha_bar_prev.sqrt() * (2 * mask - 1) + (1 - alpha_bar_prev).sqrt() * noise, model_output


class GaussianRefiner(DiffusionRefiner):
    """The refiner with a real-valued x_t in the place of the signs of y_t; returns logits of the mask, not of noise."""

    def denoise(
        self,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        prior: torch.Tensor,
        condition: list[torch.Tensor | None],
    ) -> torch.Tensor:
        """Logit of y0_hat, (B, K, H, W), from x_t of the same shape; other arguments as of ``DiffusionRefiner``."""
        return self.estimate_mask(sample, timesteps, prior, condition)


class GaussianHiDiff(HiDiff):
    """The joint module over a `GaussianScheduler` and a `GaussianRefiner`."""

    def start(self, prior: torch.Tensor, sampler: str, generator: torch.Generator | None = None) -> torch.Tensor:
        """x_T, shaped like the prior: 0, the mean of N(0, 1), for ``"hard"``, else a draw."""
        if sampler == "hard":
            return torch.zeros_like(prior)
        return torch.randn(prior.shape, generator=generator, device=prior.device, dtype=prior.dtype)


class GaussianDiffusionLoss(BernoulliDiffusionLoss):
    """Squared error of x0_hat + lambda_focal focal + lambda_dice Dice: L_Diff with the KL of Gaussians, unweighted.

    The KL of two Gaussian posteriors is a weighted squared error; the weight is left out, as usual (Ho et al., 2020,
    Eq. 14). The focal loss of the mask equals that of the Bernoulli noise in either state of y_t. Arguments as of
    ``BernoulliDiffusionLoss``.
    """

    def forward(
        self,
        mask_logits: torch.Tensor,
        sample: torch.Tensor,
        original_samples: torch.Tensor,
        prior: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """The scalar loss of mask logits, (B, K, *spatial), against y_0 in {0, 1}; the other arguments are not used."""
        mask_logits, original_samples = mask_logits.float(), original_samples.float()
        estimate = mask_logits.sigmoid()
        loss = (2 * estimate - 2 * original_samples).square().mean()
        loss = loss + self.lambda_focal * focal_noise_loss(mask_logits, original_samples, self.gamma)
        if self.lambda_dice > 0:
            loss = loss + self.lambda_dice * self.dice(estimate, original_samples)
        return loss
