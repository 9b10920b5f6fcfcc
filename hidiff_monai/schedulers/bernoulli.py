"""Bernoulli diffusion between a binary mask y_0 and a prior f(x) (HiDiff, Eqs. 3-10 and Algorithm 2).

Time is counted as in MONAI: code index ``t`` in 0 ... T-1 is the paper's ``t + 1``, so ``t = 0`` is the least noisy
state, ``t = T - 1`` is pure prior, and ``t = -1`` stands for y_0 itself.
"""

import math
from typing import Any, Callable, List, Optional, Tuple

import torch
from monai.networks.schedulers import NoiseSchedules
from monai.networks.schedulers.scheduler import Scheduler

SAMPLERS = ("ddim", "ddpm", "hard")


@NoiseSchedules.add_def("bernoulli_cosine", "HiDiff's cosine schedule, which reaches abar_T = 0 (float64)")
def bernoulli_cosine(num_train_timesteps: int, s: float = 0.008) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """abar(u) = cos^2((u/T + s)/(1 + s) * pi/2) / cos^2(s/(1 + s) * pi/2) at u = 1 ... T (HiDiff, Sec. III-A.2).

    Args:
        num_train_timesteps: T, at least 1.
        s: offset that keeps the first steps from vanishing.

    Returns:
        betas, alphas and abar, each (T,) float64.
    """
    steps = torch.arange(num_train_timesteps + 1, dtype=torch.float64)
    curve = torch.cos((steps / num_train_timesteps + s) / (1 + s) * math.pi / 2) ** 2
    curve = curve / curve[0]
    curve[-1] = 0.0  # cos^2(pi/2), free of rounding
    alphas = curve[1:] / curve[:-1]
    return 1 - alphas, alphas, curve[1:]


class BernoulliScheduler(Scheduler):
    """Forward process, posterior and reverse steps of the binary Bernoulli diffusion model.

    Speaks MONAI's ``set_timesteps / add_noise / step``. Masks and samples hold 0 and 1, priors and estimates lie in
    [0, 1]; all are (B, K, *spatial). The schedule is a float64 buffer, outside the state dict, which no ``half()`` or
    ``to(dtype)`` recasts. States have the dtype of the masks given, probabilities at least float32.

    Args:
        num_train_timesteps: T of the paper, default 10.
        schedule: a name in ``monai.networks.schedulers.NoiseSchedules``, or the paper's ``"bernoulli_cosine"``.
        schedule_args: further arguments of that schedule.

    Raises:
        ValueError: when T is not a positive integer.
    """

    alphas_cumprod: torch.Tensor
    timesteps: torch.Tensor

    def __init__(self, num_train_timesteps: int = 10, schedule: str = "bernoulli_cosine", **schedule_args: Any) -> None:
        if isinstance(num_train_timesteps, bool) or not isinstance(num_train_timesteps, int) or num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps is {num_train_timesteps!r}; expected an integer of at least 1")
        super().__init__(num_train_timesteps, schedule, **schedule_args)
        alphas_cumprod, timesteps = self.alphas_cumprod.double(), self.timesteps
        for name in ("betas", "alphas", "alphas_cumprod", "one", "timesteps"):
            delattr(self, name)
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)
        self.register_buffer("timesteps", timesteps, persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "BernoulliScheduler":
        """Moves the schedule to other devices, but never recasts it (MPS alone, which has no float64, gets float32)."""
        schedule = self._buffers.pop("alphas_cumprod")
        super()._apply(fn, recurse)
        device = fn(torch.zeros(1, device=schedule.device)).device  # type: ignore[union-attr]
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.register_buffer("alphas_cumprod", schedule.to(dtype).to(device), persistent=False)  # type: ignore[union-attr]
        return self

    def set_timesteps(self, num_inference_steps: int, device: Optional[torch.device] = None) -> None:
        """Chooses ``num_inference_steps`` timesteps, evenly spread over T-1 ... 0 and always starting at T-1.

        Args:
            num_inference_steps: from 1 to T.
            device: where ``timesteps`` shall lie; the schedule's device when None.

        Raises:
            ValueError: when the number is not an integer in [1, T].
        """
        if not isinstance(num_inference_steps, int) or isinstance(num_inference_steps, bool):
            raise ValueError(f"num_inference_steps is {num_inference_steps!r}; expected an integer")
        steps = self.inference_timesteps(num_inference_steps)
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.tensor(steps, device=device or self.alphas_cumprod.device)

    def inference_timesteps(self, num_inference_steps: int) -> List[int]:
        """The timesteps in falling order; the step after the last leads to y_0.

        Python's numbers: no GPU is waited for, and an exported chain knows its length.

        Raises:
            ValueError: when the number is not in [1, T].
        """
        if num_inference_steps < 1 or num_inference_steps > self.num_train_timesteps:
            raise ValueError(
                f"num_inference_steps is {num_inference_steps}; expected an integer from 1 to "
                f"{self.num_train_timesteps}, the T the refiner was trained with"
            )
        last, stride = self.num_train_timesteps - 1, float(self.num_train_timesteps) / num_inference_steps
        return [int(round(last - i * stride)) for i in range(num_inference_steps)]

    def alpha_bar(self, timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """abar at (B,) timesteps, 1 where t = -1; shaped to broadcast over ``like``, at least in float32."""
        values = self.alphas_cumprod[timesteps.clamp(min=0)]
        values = torch.where(timesteps < 0, torch.ones_like(values), values)
        dtype = like.dtype if like.dtype == torch.float64 else torch.float32
        return values.to(dtype).reshape([-1] + [1] * (like.dim() - 1))

    def marginal(self, original_samples: torch.Tensor, prior: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Mean of q(y_t | y_0, f), HiDiff Eq. 6: abar_t y_0 + (1 - abar_t) f.

        Args:
            original_samples: y_0, (B, K, *spatial), in {0, 1}.
            prior: f(x), same shape, in [0, 1].
            timesteps: (B,), integers in [0, T).
        """
        self._check_shapes(original_samples, prior)
        alpha_bar = self.alpha_bar(timesteps, original_samples)
        return alpha_bar * original_samples + (1 - alpha_bar) * prior

    def posterior(
        self,
        sample: torch.Tensor,
        original_samples: torch.Tensor,
        prior: torch.Tensor,
        timesteps: torch.Tensor,
        prev_timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """q(y_s = 1 | y_t, y_0, f) for s < t, HiDiff Eq. 7: Bayes' rule on the two-state chain, exact for any stride.

        With a = abar_t / abar_s and likelihood l = |1 - y_t - f|, which is q(y_t | f):
        theta_1 = [a y_t + (1 - a) l] [abar_s y_0 + (1 - abar_s) f] and
        theta_0 = [a (1 - y_t) + (1 - a) l] [abar_s (1 - y_0) + (1 - abar_s)(1 - f)]; the result is
        theta_1 / (theta_0 + theta_1). Where a saturated prior makes (y_t, y_0) impossible, both vanish and the
        marginal at s stands in, so values and gradients stay finite.

        Args:
            sample: y_t, (B, K, *spatial), in {0, 1}.
            original_samples: y_0 in {0, 1}, or its estimate in [0, 1], same shape.
            prior: f(x), same shape, in [0, 1].
            timesteps: t, (B,), integers in [0, T).
            prev_timesteps: s, (B,), integers in [-1, t); at -1 the result is ``original_samples``.
        """
        self._check_shapes(sample, original_samples)
        self._check_shapes(sample, prior)
        alpha_bar = self.alpha_bar(prev_timesteps, sample)
        keep = self.alpha_bar(timesteps, sample) / alpha_bar
        forget = (1 - keep) * (1 - sample - prior).abs()
        marginal = alpha_bar * original_samples + (1 - alpha_bar) * prior
        complement = alpha_bar * (1 - original_samples) + (1 - alpha_bar) * (1 - prior)  # 1 - marginal, uncancelled
        theta_1 = (keep * sample + forget) * marginal
        theta_0 = (keep * (1 - sample) + forget) * complement
        total = theta_0 + theta_1
        is_possible = total > 1e-18
        ratio = torch.where(is_possible, theta_1, marginal) / torch.where(is_possible, total, torch.ones_like(total))
        is_clean = (prev_timesteps < 0).reshape([-1] + [1] * (sample.dim() - 1))
        return torch.where(is_clean, original_samples.to(ratio.dtype), ratio)

    def add_noise(
        self,
        original_samples: torch.Tensor,
        prior: torch.Tensor,
        timesteps: torch.Tensor,
        generator: Optional[torch.Generator] = None,
    ) -> torch.Tensor:
        """Draws y_t = y_0 xor eps with eps ~ B((1 - abar_t) |f - y_0|), HiDiff Eq. 6 reparameterised.

        Args:
            original_samples: y_0, (B, K, *spatial), in {0, 1}.
            prior: f(x), same shape, in [0, 1].
            timesteps: (B,), integers in [0, T).
            generator: source of the draw, on the device of the masks; the global one when None.

        Returns:
            y_t in {0, 1}, in the dtype of ``original_samples``.
        """
        self._check_shapes(original_samples, prior)
        clean = original_samples.to(prior.dtype)  # integers have no sign, bool no difference
        flip_rate = (1 - self.alpha_bar(timesteps, original_samples)) * (prior - clean).abs()
        noise = torch.bernoulli(flip_rate.detach().clamp(0, 1), generator=generator)
        return (clean - noise.to(clean.dtype)).abs().to(original_samples.dtype)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        prior: torch.Tensor,
        prev_timestep: int,
        sampler: str = "ddim",
        generator: Optional[torch.Generator] = None,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """One reverse step from y_t to y_s, HiDiff Algorithm 2, with y0_hat = |y_t - eps_hat| (calibration, Eq. 10).

        - ``"ddpm"``: y_s ~ B(posterior(y_t, y0_hat, f)).
        - ``"ddim"``: y_s ~ B(sigma y_t + (abar_s - sigma abar_t) y0_hat + ((1 - abar_s) - (1 - abar_t) sigma) f) with
          sigma = (1 - abar_s) / (1 - abar_t), which makes the third term 0.
        - ``"hard"``: y_s = 1[y0_hat > 1/2], without any draw (ours, not the paper's).

        Args:
            model_output: eps_hat, (B, K, *spatial), noise probability in [0, 1].
            timestep: t in [0, T).
            sample: y_t, same shape, in {0, 1}.
            prior: f(x), same shape, in [0, 1].
            prev_timestep: s in [-1, t); -1 for the last step, which returns y0_hat, a probability, as it is.
            sampler: one of ``SAMPLERS``.
            generator: source of the draw; the global one when None.

        Returns:
            (y_s, y0_hat), each of the shape of ``sample``.

        Raises:
            ValueError: when the sampler is unknown or not -1 <= s < t < T.
        """
        self._check_step(timestep, prev_timestep, sampler)
        self._check_shapes(sample, model_output)
        self._check_shapes(sample, prior)
        pred_original = self.estimate_original(sample, model_output)
        if prev_timestep == -1:
            return pred_original, pred_original
        if sampler == "hard":
            return (pred_original > 0.5).to(sample.dtype), pred_original
        t = torch.full([sample.shape[0]], timestep, dtype=torch.long, device=sample.device)
        s = torch.full([sample.shape[0]], prev_timestep, dtype=torch.long, device=sample.device)
        if sampler == "ddpm":
            mean = self.posterior(sample, pred_original, prior, t, s)
        else:
            alpha_bar, alpha_bar_prev = self.alpha_bar(t, sample), self.alpha_bar(s, sample)
            sigma = (1 - alpha_bar_prev) / (1 - alpha_bar)
            mean = sigma * sample + (alpha_bar_prev - sigma * alpha_bar) * pred_original
        return torch.bernoulli(mean.clamp(0, 1), generator=generator).to(sample.dtype), pred_original

    def estimate_original(self, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
        """Calibration, HiDiff Eq. 10: y0_hat = |y_t - eps_hat|, from y_t in {0, 1} and eps_hat in [0, 1]."""
        return (sample - model_output).abs()

    def _check_step(self, timestep: int, prev_timestep: int, sampler: str) -> None:
        if sampler not in ("ddim", "ddpm", "hard"):
            raise ValueError(f"sampler is '{sampler}'; expected 'ddim', 'ddpm' or 'hard'")
        if not -1 <= prev_timestep < timestep < self.num_train_timesteps:
            raise ValueError(
                f"prev_timestep {prev_timestep}, timestep {timestep}; expected -1 <= prev_timestep < timestep < "
                f"{self.num_train_timesteps}: take both from set_timesteps"
            )

    def _check_shapes(self, mask: torch.Tensor, other: torch.Tensor) -> None:
        if mask.shape != other.shape:
            raise ValueError(f"masks and prior have shapes {mask.shape} and {other.shape}; expected the same shape")
