"""Data: datalists, the check before training, and phantoms to run everything without any data."""

from .datalist import count_cases, labelled_names, load_datalist, read_datalist, use_fold
from .labels import grey_levels, label_transform
from .leakage import SECTIONS, check_leakage
from .phantoms import write_phantoms
from .photographs import LiftBlackd, LoadPhotographd, list_photographs
from .reading import Pixels, read_pixels
from .scans import LoadScand, list_volumes
from .slices import (
    ClassesToChannelsd,
    LoadSliced,
    LoadVolumed,
    NormalizeByVolumed,
    load_slices,
    load_volumes,
    read_geometry,
)
from .validate import Problem, check_dataset, require_valid

__all__ = [
    "SECTIONS",
    "ClassesToChannelsd",
    "LiftBlackd",
    "LoadPhotographd",
    "LoadScand",
    "LoadSliced",
    "LoadVolumed",
    "NormalizeByVolumed",
    "Pixels",
    "Problem",
    "check_dataset",
    "check_leakage",
    "count_cases",
    "grey_levels",
    "label_transform",
    "list_photographs",
    "list_volumes",
    "labelled_names",
    "load_datalist",
    "load_slices",
    "load_volumes",
    "read_datalist",
    "read_geometry",
    "read_pixels",
    "require_valid",
    "use_fold",
    "write_phantoms",
]
