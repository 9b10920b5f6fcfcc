"""What a mask, a distance and a probability are worth; every figure with its convention and its n."""

from .calibration import (
    ReliabilityBins,
    area_under_error_retention,
    brier_score,
    expected_calibration_error,
    reliability_bins,
)
from .cases import HD95_UNITS, score_case, summarise
from .comparison import ComparedScore, compare_methods
from .comparison_table import (
    SCORE_NAMES,
    comparison_csv,
    comparison_json,
    format_comparison,
    latex_rows,
    p_text,
    without_agreeing,
)
from .complexity import complexity
from .complexity_report import ComplexityReport, Operations, Storage
from .conventions import DICE_CONVENTIONS, dice_transunet, dice_undefined
from .overlap import ConfusionCounts, accuracy, confusion_counts, dice, iou, recall
from .slices import regions_of_slices, score_slices, select_small
from .statistics import paired_bootstrap, paired_wilcoxon
from .surface import hd95
from .table import format_table, read_cases, write_cases, write_summary

__all__ = [
    "DICE_CONVENTIONS",
    "HD95_UNITS",
    "SCORE_NAMES",
    "ComparedScore",
    "ComplexityReport",
    "ConfusionCounts",
    "Operations",
    "ReliabilityBins",
    "Storage",
    "accuracy",
    "area_under_error_retention",
    "brier_score",
    "compare_methods",
    "comparison_csv",
    "comparison_json",
    "complexity",
    "confusion_counts",
    "dice",
    "dice_transunet",
    "dice_undefined",
    "expected_calibration_error",
    "format_comparison",
    "format_table",
    "hd95",
    "iou",
    "latex_rows",
    "p_text",
    "paired_bootstrap",
    "paired_wilcoxon",
    "read_cases",
    "recall",
    "regions_of_slices",
    "reliability_bins",
    "score_case",
    "score_slices",
    "select_small",
    "summarise",
    "without_agreeing",
    "write_cases",
    "write_summary",
]
