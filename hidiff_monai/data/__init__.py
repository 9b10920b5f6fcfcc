"""Data: datalists, the check before training, and phantoms to run everything without any data."""

from .datalist import count_cases, load_datalist, use_fold
from .labels import grey_levels, label_transform
from .leakage import check_leakage
from .phantoms import write_phantoms
from .reading import Pixels, read_pixels
from .validate import Problem, check_dataset, require_valid

__all__ = [
    "Pixels",
    "Problem",
    "check_dataset",
    "check_leakage",
    "count_cases",
    "grey_levels",
    "label_transform",
    "load_datalist",
    "read_pixels",
    "require_valid",
    "use_fold",
    "write_phantoms",
]
