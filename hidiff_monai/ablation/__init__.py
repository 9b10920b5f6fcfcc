"""What each part of HiDiff is worth: the paper's ablations (Tables IX and X) on a bundle's own data."""

from hidiff_monai.ablation.gaussian import GaussianDiffusionLoss, GaussianHiDiff, GaussianRefiner, GaussianScheduler
from hidiff_monai.ablation.networks import RefinerWithoutXFormer
from hidiff_monai.ablation.run import run_ablation

__all__ = [
    "GaussianDiffusionLoss",
    "GaussianHiDiff",
    "GaussianRefiner",
    "GaussianScheduler",
    "RefinerWithoutXFormer",
    "run_ablation",
]
