"""A run as one HTML file that a reader without Python can judge."""

from hidiff_monai.report.case_picture import case_picture
from hidiff_monai.report.evaluation import Comparison, compare, read_rows
from hidiff_monai.report.figures import overview, paired_dice, photograph, thumbnail, training_curves, trajectory
from hidiff_monai.report.html import write_report
from hidiff_monai.report.manifest import collect_versions, write_manifest
from hidiff_monai.report.prediction import write_prediction_report
from hidiff_monai.report.prediction_cases import case_dice

__all__ = [
    "Comparison",
    "case_dice",
    "case_picture",
    "collect_versions",
    "compare",
    "overview",
    "paired_dice",
    "photograph",
    "read_rows",
    "thumbnail",
    "training_curves",
    "trajectory",
    "write_manifest",
    "write_prediction_report",
    "write_report",
]
