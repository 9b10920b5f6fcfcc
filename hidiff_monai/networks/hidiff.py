"""HiDiff: a segmentor and its diffusion refiner in one module, image in, probability out (HiDiff, Algorithm 2)."""

from typing import List, Optional, Tuple

import torch
from torch import nn

from hidiff_monai.networks.refiner import DiffusionRefiner
from hidiff_monai.schedulers import BernoulliScheduler


class HiDiff(nn.Module):
    """The joint module: one network definition, one flat state dict, scriptable with its sampling loop.

    ``num_inference_steps``, ``num_samples`` and ``sampler`` are plain attributes, to be set at any time (on the
    exported TorchScript module too).

    Args:
        segmentor: image (B, C, H, W) -> (logits (B, K, H, W), list of feature maps).
        refiner: a ``DiffusionRefiner`` that expects those features.
        scheduler: the Bernoulli process with the T of the training.
        exclusive: True where every pixel belongs to exactly one of K >= 2 classes: the prior is a softmax, and the
            result is normalised over the classes. False: a sigmoid per channel.
        num_inference_steps: steps of the reverse chain, 1 ... T; None for T.
        num_samples: chains whose mean is returned; without effect on ``"hard"``.
        sampler: ``"hard"``, deterministic: every state is a hard decision; ``"ddim"`` or ``"ddpm"``: states are drawn.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        refiner: DiffusionRefiner,
        scheduler: BernoulliScheduler,
        exclusive: bool = False,
        num_inference_steps: Optional[int] = None,
        num_samples: int = 1,
        sampler: str = "hard",
    ) -> None:
        super().__init__()
        if exclusive and refiner.num_targets == 1:
            raise ValueError("exclusive=True with one target: its softmax is always 1; expected exclusive=False")
        if num_inference_steps is not None:
            scheduler.set_timesteps(num_inference_steps)
        self.segmentor = segmentor
        self.refiner = refiner
        self.scheduler = scheduler
        self.exclusive = exclusive
        self.num_inference_steps: int = num_inference_steps or scheduler.num_train_timesteps
        self.num_samples = num_samples
        self.sampler = sampler

    def predict_prior(self, image: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, List[torch.Tensor]]:
        """Image (B, C, H, W) -> logits, prior f(x) in [0, 1] (both (B, K, H, W)), and the segmentor's features."""
        logits, features = self.segmentor(image)
        if logits.dtype == torch.float16 or logits.dtype == torch.bfloat16:
            logits = logits.float()  # half precision saturates the prior
        prior = logits.softmax(dim=1) if self.exclusive else logits.sigmoid()
        return logits, prior, features

    def start(self, prior: torch.Tensor, sampler: str, generator: Optional[torch.Generator] = None) -> torch.Tensor:
        """y_T, (B, K, H, W) in {0, 1}: 1[f > 1/2] for ``"hard"``, else a draw from B(f)."""
        if sampler == "hard":
            return (prior > 0.5).to(prior.dtype)
        return torch.bernoulli(prior, generator=generator)

    def reverse(
        self,
        prior: torch.Tensor,
        condition: List[Optional[torch.Tensor]],
        sampler: str,
        num_inference_steps: int,
        generator: Optional[torch.Generator] = None,
        trajectory: Optional[List[torch.Tensor]] = None,
    ) -> torch.Tensor:
        """Runs the reverse chain from the prior.

        Args:
            prior: f(x), (B, K, H, W), in [0, 1].
            condition: the refiner's ``encode_condition`` for the same batch.
            sampler: ``"hard"``, ``"ddim"`` or ``"ddpm"``.
            num_inference_steps: 1 ... T.
            generator: source of the draws; the global one when None.
            trajectory: a list that receives y_t and y0_hat of every step, alternately.

        Returns:
            y0_hat of the last step, (B, K, H, W), in [0, 1].
        """
        sample = self.start(prior, sampler, generator)
        estimate = prior
        timesteps = self.scheduler.inference_timesteps(num_inference_steps)
        for i in range(num_inference_steps):
            t = timesteps[i]
            s = timesteps[i + 1] if i + 1 < num_inference_steps else -1
            batch_t = torch.full([prior.shape[0]], t, dtype=torch.long, device=prior.device)
            noise = self.refiner.denoise(sample, batch_t, prior, condition).sigmoid()
            previous, estimate = self.scheduler.step(noise, t, sample, prior, s, sampler, generator)
            if trajectory is not None:
                trajectory.append(sample)
                trajectory.append(estimate)
            sample = previous
        return estimate

    def sample(
        self,
        prior: torch.Tensor,
        condition: List[Optional[torch.Tensor]],
        sampler: str,
        num_inference_steps: int,
        num_samples: int,
        generator: Optional[torch.Generator] = None,
    ) -> torch.Tensor:
        """``num_samples`` chains in one batch -> y0_hat, (num_samples, B, K, H, W), in [0, 1]."""
        repeated = self.refiner.repeat_condition(condition, num_samples)
        estimate = self.reverse(prior.repeat(num_samples, 1, 1, 1), repeated, sampler, num_inference_steps, generator)
        return estimate.unflatten(0, [num_samples, prior.shape[0]])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image (B, C, H, W) -> refined probability (B, K, H, W): the mean of the samples, or the one hard chain."""
        _, prior, features = self.predict_prior(image)
        condition = self.refiner.encode_condition(image, prior, features)
        num_samples = 1 if self.sampler == "hard" else self.num_samples
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}; expected 1 or more")
        return self.combine(self.sample(prior, condition, self.sampler, self.num_inference_steps, num_samples))

    def combine(self, samples: torch.Tensor) -> torch.Tensor:
        """Mean over the first axis, normalised over exclusive classes: (N, B, K, H, W) -> (B, K, H, W)."""
        probability = samples.mean(dim=0)
        if self.exclusive:
            probability = probability / probability.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return probability

    @torch.jit.unused
    def compile_inference(self, storage: torch.dtype = torch.float32) -> "HiDiff":
        """The same network for inference: a packed copy of the refiner beside this segmentor and scheduler.

        The segmentor is shared, and in evaluation mode from here on: call ``train()`` before it takes further steps.

        Args:
            storage: of the refiner's real-valued maps between layers, float16 or float32.

        Raises:
            ValueError: when the refiner is real-valued, or compiled already.
        """
        if not isinstance(self.refiner, DiffusionRefiner):
            raise ValueError(f"the refiner is a {type(self.refiner).__name__}; expected the trained DiffusionRefiner")
        return self.with_refiner(self.refiner.compile_inference(self.scheduler.num_train_timesteps, storage))

    @torch.jit.unused
    def with_refiner(self, refiner: nn.Module) -> "HiDiff":
        """Another form of the refiner beside this segmentor and scheduler, with the same settings, for inference.

        The segmentor is shared, and in evaluation mode from here on.
        """
        network = HiDiff(self.segmentor, refiner, self.scheduler, self.exclusive)  # type: ignore[arg-type]
        network.num_inference_steps = self.num_inference_steps
        network.num_samples, network.sampler = self.num_samples, self.sampler
        return network.eval()
