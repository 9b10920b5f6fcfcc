"""A run as one HTML file that a reader without Python can judge."""

from hidiff_monai.report.case_picture import case_picture
from hidiff_monai.report.evaluation import Comparison, compare, read_rows
from hidiff_monai.report.figures import overview, paired_dice, photograph, thumbnail, training_curves, trajectory
from hidiff_monai.report.html import write_report
from hidiff_monai.report.manifest import collect_versions, write_manifest
from hidiff_monai.report.prediction import write_prediction_report
from hidiff_monai.report.prediction_cases import case_dice
from hidiff_monai.report.same_area import SAME_AREA, rows_at_same_area

__all__ = [
    "SAME_AREA",
    "Comparison",
    "case_dice",
    "case_picture",
    "collect_versions",
    "compare",
    "overview",
    "paired_dice",
    "photograph",
    "read_rows",
    "rows_at_same_area",
    "thumbnail",
    "training_curves",
    "trajectory",
    "write_manifest",
    "write_prediction_report",
    "write_report",
]
