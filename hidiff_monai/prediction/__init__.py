"""Cases nobody has labelled: from a scanner's files to masks, their uncertainty, and a report."""

from hidiff_monai.prediction.model import choose_device, load_model
from hidiff_monai.prediction.plan import Budget
from hidiff_monai.prediction.reference import publish_reference
from hidiff_monai.prediction.run import run_prediction
from hidiff_monai.prediction.summary import format_summary

__all__ = ["Budget", "choose_device", "format_summary", "load_model", "publish_reference", "run_prediction"]
