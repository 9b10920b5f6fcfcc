"""Data: datalists, the check before training, and phantoms to run everything without any data."""

from .datalist import count_cases, grey_levels, load_datalist, read_datalist
from .geometry import restore_to_source
from .leakage import SECTIONS, check_leakage
from .phantoms import write_phantoms
from .reading import Pixels, read_pixels
from .slices import ClassesToChannelsd, LoadSliced, LoadVolumed, load_slices, load_volumes, read_geometry
from .validate import Problem, check_dataset, require_valid

__all__ = [
    "ClassesToChannelsd",
    "LoadSliced",
    "LoadVolumed",
    "Pixels",
    "Problem",
    "SECTIONS",
    "check_dataset",
    "check_leakage",
    "count_cases",
    "grey_levels",
    "load_datalist",
    "load_slices",
    "load_volumes",
    "read_datalist",
    "read_geometry",
    "read_pixels",
    "require_valid",
    "restore_to_source",
    "write_phantoms",
]
