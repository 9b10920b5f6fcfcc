"""What a mask, a distance and a probability are worth; every figure with its convention and its n."""

from .calibration import brier_score, reliability_bins
from .calibration_summary import CaseCalibration, read_calibration, write_calibration
from .calibration_sums import ProbabilitySums, ReliabilityBins, expected_calibration_error
from .cases import HD95_UNITS, score_case, summarise
from .comparison import AVERAGE, BACKGROUND, ComparedScore, compare_methods, without_background
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
from .masks import class_masks
from .overlap import ConfusionCounts, accuracy, confusion_counts, dice, iou, recall
from .retention import (
    ErrorRetention,
    HalfLevels,
    area_under_error_retention,
    coin_toss_nats,
    error_retention,
    ideal_curve,
)
from .slices import regions_of_slices, score_slices, select_small
from .statistics import correlation_interval, paired_bootstrap, paired_wilcoxon, rank_correlation
from .surface import hd95
from .table import array_name, format_table, read_cases, write_cases, write_summary
from .temperature import apply_temperature, class_log_loss, fit_temperature, require_temperature, temper_threshold

__all__ = [
    "AVERAGE",
    "BACKGROUND",
    "DICE_CONVENTIONS",
    "HD95_UNITS",
    "SCORE_NAMES",
    "CaseCalibration",
    "ComparedScore",
    "ComplexityReport",
    "ConfusionCounts",
    "ErrorRetention",
    "HalfLevels",
    "Operations",
    "ProbabilitySums",
    "ReliabilityBins",
    "Storage",
    "accuracy",
    "apply_temperature",
    "area_under_error_retention",
    "array_name",
    "brier_score",
    "class_log_loss",
    "class_masks",
    "coin_toss_nats",
    "compare_methods",
    "comparison_csv",
    "comparison_json",
    "complexity",
    "confusion_counts",
    "correlation_interval",
    "dice",
    "dice_transunet",
    "dice_undefined",
    "error_retention",
    "expected_calibration_error",
    "fit_temperature",
    "format_comparison",
    "format_table",
    "hd95",
    "ideal_curve",
    "iou",
    "latex_rows",
    "p_text",
    "paired_bootstrap",
    "paired_wilcoxon",
    "rank_correlation",
    "read_calibration",
    "read_cases",
    "recall",
    "regions_of_slices",
    "reliability_bins",
    "require_temperature",
    "score_case",
    "score_slices",
    "select_small",
    "summarise",
    "temper_threshold",
    "without_agreeing",
    "without_background",
    "write_calibration",
    "write_cases",
    "write_summary",
]
