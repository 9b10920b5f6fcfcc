"""Ignite handlers for training and evaluation."""

from hidiff_monai.handlers.alternate_collaborative import AlternateCollaborativeHandler
from hidiff_monai.handlers.checkpoint import BestModelSaver, ResumableTraining
from hidiff_monai.handlers.ema import ResumableEMA
from hidiff_monai.handlers.evaluation import EvaluationWriter
from hidiff_monai.handlers.health import HealthCheck
from hidiff_monai.handlers.history import HistoryWriter
from hidiff_monai.handlers.progress import LossProgressBar
from hidiff_monai.handlers.seed import EpochSeed
from hidiff_monai.handlers.tracking import ExperimentTracking
from hidiff_monai.handlers.volume_evaluation import VolumeEvaluationWriter

__all__ = [
    "AlternateCollaborativeHandler",
    "BestModelSaver",
    "EpochSeed",
    "EvaluationWriter",
    "ExperimentTracking",
    "HealthCheck",
    "HistoryWriter",
    "LossProgressBar",
    "ResumableEMA",
    "ResumableTraining",
    "VolumeEvaluationWriter",
]
