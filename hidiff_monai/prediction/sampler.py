"""One position of the sampler: which chains make a mask, how many of them, and what they cost."""

from __future__ import annotations

from typing import Any, NamedTuple

from hidiff_monai.inferers import BernoulliDiffusionInferer


class SamplerSetting(NamedTuple):
    """How a mask is drawn.

    Attributes:
        sampler: "hard", "ddim" or "ddpm"; "prior" for the segmentor alone.
        steps: of each reverse chain; 0 for the prior.
        samples: chains. With "hard" the mask is one chain, and more than one adds so many DDIM chains for the
            uncertainty.
    """

    sampler: str
    steps: int
    samples: int = 1

    @property
    def chain_steps(self) -> int:
        """Passes of the refiner over an image: steps times chains, those for the uncertainty included."""
        if self.sampler == "hard":
            return self.steps * (1 + (self.samples if self.samples > 1 else 0))
        return self.steps * self.samples

    @property
    def is_prior(self) -> bool:
        """Whether the refiner does not run."""
        return self.sampler == "prior"

    def apply(self, inferer: BernoulliDiffusionInferer) -> None:
        """Makes an inferer draw so from its next call on; the prior takes an inferer of its own."""
        inferer.sampler, inferer.num_inference_steps, inferer.num_samples = self.sampler, self.steps, self.samples

    def describe(self) -> str:
        """In words, for tables and messages."""
        if self.is_prior:
            return "prior alone"
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        chains = "1 chain" if self.samples == 1 else f"{self.samples} chains"
        if self.sampler != "hard":
            mean = "" if self.samples == 1 else "mean of "
            return f"{mean}{chains} of {steps}, {self.sampler.upper()}"
        return f"{steps}, hard" + (f", and {chains} for the uncertainty" if self.samples > 1 else "")

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> SamplerSetting:
        """Out of JSON, where other keys may stand beside; the inverse of ``_asdict``."""
        return cls(str(content["sampler"]), int(content["steps"]), int(content["samples"]))
