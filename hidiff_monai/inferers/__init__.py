"""Inference: from an image to a refined mask with its uncertainty."""

from hidiff_monai.inferers.bernoulli import OUTPUTS, BernoulliDiffusionInferer, Trajectory, case_uncertainty

__all__ = ["OUTPUTS", "BernoulliDiffusionInferer", "Trajectory", "case_uncertainty"]
