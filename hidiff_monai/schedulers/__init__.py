"""Noise schedules and the Bernoulli diffusion process: the only room where diffusion maths lives."""

from hidiff_monai.schedulers.bernoulli import SAMPLERS, BernoulliScheduler

__all__ = ["SAMPLERS", "BernoulliScheduler"]
