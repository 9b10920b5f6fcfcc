"""What a mask, a distance and a probability are worth; every figure with its convention and its n."""

from .calibration import (
    ReliabilityBins,
    area_under_error_retention,
    brier_score,
    expected_calibration_error,
    reliability_bins,
)
from .cases import score_case, summarise
from .complexity import complexity
from .complexity_report import ComplexityReport, Operations, Storage
from .overlap import ConfusionCounts, accuracy, confusion_counts, dice, iou, recall
from .surface import hd95
from .table import format_table, read_cases, write_cases, write_summary

__all__ = [
    "ComplexityReport",
    "ConfusionCounts",
    "Operations",
    "ReliabilityBins",
    "Storage",
    "accuracy",
    "area_under_error_retention",
    "brier_score",
    "complexity",
    "confusion_counts",
    "dice",
    "expected_calibration_error",
    "format_table",
    "hd95",
    "iou",
    "read_cases",
    "recall",
    "reliability_bins",
    "score_case",
    "summarise",
    "write_cases",
    "write_summary",
]
