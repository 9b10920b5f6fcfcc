"""Sampling from HiDiff: refined mask, prior, per-pixel uncertainty and the whole trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations
from typing import Any, NamedTuple

import torch
from monai.data import MetaTensor
from monai.inferers import DiffusionInferer, Inferer

from hidiff_monai.metrics import apply_temperature, require_temperature
from hidiff_monai.networks import HiDiff
from hidiff_monai.schedulers import SAMPLERS, BernoulliScheduler

OUTPUTS = ("refined", "prior", "variance", "entropy")


class Trajectory(NamedTuple):
    """A reverse chain, step by step; T' is the number of inference steps.

    Attributes:
        timesteps: t of each step, T' integers in falling order.
        states: y_t before each step, (T', B, K, H, W), in {0, 1}.
        estimates: y0_hat after each step, same shape, in [0, 1].
    """

    timesteps: list[int]
    states: torch.Tensor
    estimates: torch.Tensor


def binary_entropy(probability: torch.Tensor) -> torch.Tensor:
    """-p log p - (1 - p) log(1 - p), elementwise, in nats: 0 ... log 2."""
    return torch.special.entr(probability) + torch.special.entr(1 - probability)


def case_uncertainty(entropy: torch.Tensor, refined: torch.Tensor, region: torch.Tensor | None = None) -> float:
    """One figure per case: its entropy in nats per foreground pixel, which does not grow with the image's margin.

    Args:
        entropy: per-pixel entropy in nats, any shape.
        refined: refined probability in [0, 1], same shape.
        region: optional mask of the pixels that count, same shape.

    Returns:
        sum(entropy) / max(number of pixels with refined > 1/2, 1).
    """
    inside = torch.ones_like(entropy) if region is None else (region > 0).to(entropy.dtype)
    return float((entropy * inside).sum() / ((refined > 0.5) * inside).sum().clamp(min=1))


class BernoulliDiffusionInferer(DiffusionInferer):
    """Calls a ``HiDiff`` network on images of any size, whole, by sliding windows or slice by slice.

    Args:
        scheduler: kept for MONAI's ``DiffusionInferer``; the chains always run on the network's own.
        num_inference_steps: steps of the reverse chain; the network's own number when None.
        sampler: ``"hard"``, ``"ddim"`` or ``"ddpm"``; the network's own when None.
        num_samples: chains per image, run as one batch; the network's own number when None. With ``"hard"`` the mask
            is one deterministic chain, and more than one sample adds that many DDIM chains, for the uncertainty only.
        flip_axes: axes of the image, 0 for its rows and 1 for its columns, that are flipped as well: the network sees
            the image in each of the 2 or 4 ways, prior and mask are the means of what it says, turned back, and the
            chains of every way are counted for the uncertainty. Costs as many times the time; only for networks that
            were trained on flipped images.
        outputs: which of ``OUTPUTS`` to return. One gives a tensor (B, K, H, W), several a dictionary of tensors:
            *refined*, the mean of the chains; *prior*, f(x); *variance*, across the chains (of a Bernoulli variable,
            p(1 - p), where there is one chain only); *entropy* of the chains' mean, in nats.
        window: MONAI's ``SlidingWindowInferer`` or ``SliceInferer`` to call the network through; None for the whole
            image at once.
        seed: seeds the draws of every call, so that equal images give equal samples; None leaves them to the global
            generator.
        temperature: T of the refined probability and of the chains' mean that *entropy* is of, see `apply_temperature`:
            what `hidiff calibrate` found on validation cases; 1 changes nothing. No T moves a pixel across 1/2, or to
            another of exclusive classes: it is applied to the whole image, after windows are put together. The prior,
            and the variance across several chains, stay.

    Raises:
        ValueError: when an output, the sampler or an axis is unknown, the seed is no whole number from 0, or the
            temperature no number above 0.
    """

    def __init__(
        self,
        scheduler: BernoulliScheduler | None = None,
        num_inference_steps: int | None = None,
        sampler: str | None = None,
        num_samples: int | None = None,
        outputs: Sequence[str] = ("refined",),
        window: Inferer | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        flip_axes: Sequence[int] = (),
    ) -> None:
        super().__init__(scheduler)  # type: ignore[arg-type]
        unknown = sorted(set(outputs) - set(OUTPUTS))
        if unknown or not outputs:
            raise ValueError(f"outputs holds {unknown or 'nothing'}; expected some of {list(OUTPUTS)}")
        if sampler is not None and sampler not in SAMPLERS:
            raise ValueError(f"sampler is '{sampler}'; expected one of {list(SAMPLERS)}")
        for name, number in (("num_inference_steps", num_inference_steps), ("num_samples", num_samples)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; expected 1 or more, or None for the network's own")
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise ValueError(f"seed is {seed!r}; expected a whole number from 0, or None")
        self.num_inference_steps = num_inference_steps
        self.sampler = sampler
        self.num_samples = num_samples
        self.outputs = tuple(outputs)
        self.window = window
        self.seed = seed
        self.temperature = require_temperature(temperature)
        self.flip_axes = _require_axes(flip_axes)

    def __call__(  # type: ignore[override]
        self, inputs: torch.Tensor, network: HiDiff, *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Images (B, C, H, W), or (B, C, H, W, D) under a ``SliceInferer`` -> the chosen outputs."""
        generator = self._generator(getattr(self.window, "sw_device", None) or inputs.device)
        if self.window is None:
            results = self._infer(inputs, network, generator)
        else:
            results = self.window(inputs, lambda patch: self._infer(patch, network, generator))
        if "refined" in results:
            results["refined"] = self._scaled(results["refined"], network)
        return results if len(self.outputs) > 1 else results[self.outputs[0]]

    @torch.no_grad()
    def sample(self, inputs: torch.Tensor, network: HiDiff) -> tuple[torch.Tensor, Trajectory]:  # type: ignore[override]
        """One chain with all its states: images (B, C, H, W) -> (refined (B, K, H, W), ``Trajectory``)."""
        _, prior, features = network.predict_prior(plain_tensor(inputs))
        condition = network.refiner.encode_condition(plain_tensor(inputs), prior, features)
        steps: list[torch.Tensor] = []
        num_steps = self.num_inference_steps or network.num_inference_steps
        refined = network.reverse(
            prior, condition, self.sampler or network.sampler, num_steps, self._generator(inputs.device), steps
        )
        timesteps = network.scheduler.inference_timesteps(num_steps)
        return self._scaled(refined, network), Trajectory(timesteps, torch.stack(steps[0::2]), torch.stack(steps[1::2]))

    @torch.no_grad()
    def _infer(
        self, inputs: torch.Tensor, network: HiDiff, generator: torch.Generator | None
    ) -> dict[str, torch.Tensor]:
        inputs = plain_tensor(inputs)
        ways = []
        for axes in self._flips:
            maps = self._infer_one(inputs.flip(axes) if axes else inputs, network, generator)
            ways.append([values.flip(axes) if axes else values for values in maps])
        prior, masks, chains = (torch.cat(maps) if len(maps) > 1 else maps[0] for maps in zip(*ways, strict=True))
        mean = self._scaled(network.combine(chains), network)
        variance = chains.var(dim=0, unbiased=False) if len(chains) > 1 else mean * (1 - mean)
        results = {
            "refined": network.combine(masks),
            "prior": prior.mean(dim=0),
            "variance": variance,
            "entropy": binary_entropy(mean),
        }
        return {name: results[name] for name in self.outputs}

    def _infer_one(
        self, inputs: torch.Tensor, network: HiDiff, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images (B, C, H, W) -> prior, chains of the mask and chains of the uncertainty, (N, B, K, H, W) each."""
        sampler = self.sampler or network.sampler
        num_samples = self.num_samples or network.num_samples
        _, prior, features = network.predict_prior(inputs)
        condition = network.refiner.encode_condition(inputs, prior, features)
        num_steps = self.num_inference_steps or network.num_inference_steps
        num_chains = 1 if sampler == "hard" else num_samples
        masks = network.sample(prior, condition, sampler, num_steps, num_chains, generator)
        chains = masks
        if sampler == "hard" and num_samples > 1 and {"variance", "entropy"} & set(self.outputs):
            chains = network.sample(prior, condition, "ddim", num_steps, num_samples, generator)
        return prior[None], masks, chains

    @property
    def _flips(self) -> list[list[int]]:
        """Every combination of the axes, none first, as axes of (..., H, W)."""
        subsets = chain.from_iterable(combinations(self.flip_axes, number) for number in range(len(self.flip_axes) + 1))
        return [[axis - 2 for axis in subset] for subset in subsets]

    def _scaled(self, probability: torch.Tensor, network: HiDiff) -> torch.Tensor:
        return apply_temperature(probability, self.temperature, network.exclusive)

    def _generator(self, device: torch.device | str) -> torch.Generator | None:
        return None if self.seed is None else torch.Generator(device).manual_seed(self.seed)


def _require_axes(flip_axes: Sequence[int]) -> list[int]:
    is_list = isinstance(flip_axes, Sequence)
    if not is_list or any(type(axis) is not int or axis not in (0, 1) for axis in flip_axes):
        raise ValueError(f"flip_axes is {flip_axes!r}; expected a list of 0, which flips the rows, and 1, the columns")
    return sorted(set(flip_axes))


def plain_tensor(inputs: torch.Tensor) -> torch.Tensor:
    """The tensor without MONAI's metadata."""
    return inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
