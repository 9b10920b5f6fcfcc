"""The rows of the ablation: what each changes in a bundle's configuration, and how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ALONE = "segmentor_alone"


@dataclass(frozen=True)
class Sampling:
    """How masks are drawn from a trained model.

    Attributes:
        sampler: "hard", "ddim" or "ddpm"; the bundle's where it is None.
        steps: of the reverse chain; the bundle's where it is None.
        samples: chains whose mean is the mask; 1 for "hard".
    """

    sampler: str | None = None
    steps: int | None = None
    samples: int = 1

    @property
    def name(self) -> str:
        """Of its folder."""
        return "as_bundle" if self.sampler is None else f"{self.sampler}_{self.steps}_steps_{self.samples}_samples"

    @property
    def title(self) -> str:
        """What the table calls it."""
        if self.sampler is None:
            return "the bundle's"
        mean = f", mean of {self.samples}" if self.samples > 1 else ""
        names = {"hard": "hard decisions", "ddim": "DDIM", "ddpm": "DDPM"}
        return f"{names[self.sampler]}, {self.steps} step{'s' if self.steps != 1 else ''}{mean}"

    def settings(self) -> dict[str, Any]:
        """Keys of a bundle's evaluate.json and their values."""
        chosen = {"sampler": self.sampler, "num_inference_steps": self.steps, "num_samples": self.samples}
        return {key: value for key, value in chosen.items() if value is not None}


AS_BUNDLE = Sampling()
_STEPS = tuple(Sampling("hard", steps) for steps in (2, 5, 10))
_CHAINS = tuple(Sampling(sampler, 10, samples) for sampler in ("ddim", "ddpm") for samples in (1, 4, 16))


@dataclass(frozen=True)
class Variant:
    """A training.

    Attributes:
        name: of its folder, and of its row.
        title: what the table calls it.
        loss: "BCE" or "focal", the term beside the KL.
        collaborates: whether f learns through g.
        has_xformer: whether prior and diffusion features meet in the X-Former.
        is_binarized: of the refiner.
        settings: keys of the bundle's train.json and their values.
        samplings: how its masks are drawn, one row each.
    """

    name: str
    title: str
    loss: str = "focal"
    collaborates: bool = True
    has_xformer: bool = True
    is_binarized: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    samplings: tuple[Sampling, ...] = (AS_BUNDLE,)

    def configuration(self) -> dict[str, Any]:
        """The override file of the training: the four switches, then the settings."""
        configuration: dict[str, Any] = {
            "refiner#binarized": self.is_binarized,
            "diffusion_loss#gamma": 2.0 if self.loss == "focal" else 0.0,
            "alternation#lambda_diff": 1.0 if self.collaborates else 0.0,
        }
        if not self.has_xformer:
            configuration["refiner#_target_"] = "hidiff_monai.ablation.RefinerWithoutXFormer"
        return configuration | self.settings

    @property
    def is_standard(self) -> bool:
        """Whether the refiner is a plain ``DiffusionRefiner``, which has a compiled form."""
        return "refiner#_target_" not in self.configuration()


_GAUSSIAN = {
    "scheduler#_target_": "hidiff_monai.ablation.GaussianScheduler",
    "refiner#_target_": "hidiff_monai.ablation.GaussianRefiner",
    "network_def#_target_": "hidiff_monai.ablation.GaussianHiDiff",
    "diffusion_loss#_target_": "hidiff_monai.ablation.GaussianDiffusionLoss",
}
# With T = 1 the only state is the hard decision of the prior, which the refiner is given anyway: nothing is diffused.
_DISCRIMINATIVE = {
    "scheduler#num_train_timesteps": 1,
    "train#trainer#timestep_power": 0,
    "train#trainer#hard_start_share": 1.0,
}
_PUBLISHED = {
    "alternation#segmentor_every": 1,
    "train#trainer#timestep_power": 0,
    "train#trainer#hard_start_share": 0.0,
    "train#trainer#prior_network": "$@network",
    "diffusion_loss#lambda_dice": 0.0,
}

VARIANTS = (
    Variant(ALONE, "segmentor alone, as many mini-batches"),
    Variant("discriminative", "discriminative refiner", settings=_DISCRIMINATIVE),
    Variant("gaussian", "Gaussian diffusion refiner", settings=_GAUSSIAN),
    Variant("v1", "V1", "BCE", False, False, False),
    Variant("v2", "V2", "BCE", True, False, False),
    Variant("v3", "V3", "focal", True, False, False),
    Variant("v4", "V4", "focal", True, True, False),
    Variant("v5", "V5, HiDiff", samplings=(AS_BUNDLE, *_STEPS, *_CHAINS)),
    Variant(
        "published",
        "V5, trained as published",
        settings=_PUBLISHED,
        samplings=(AS_BUNDLE, Sampling("ddim", 10, 1), Sampling("ddim", 10, 16)),
    ),
)
