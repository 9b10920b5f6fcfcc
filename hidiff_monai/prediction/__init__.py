"""Cases nobody has labelled: from a scanner's files to masks, their uncertainty, and a report."""

from hidiff_monai.prediction.model import choose_device, load_model
from hidiff_monai.prediction.run import format_summary, run_prediction

__all__ = ["choose_device", "format_summary", "load_model", "run_prediction"]
