"""A Bernoulli diffusion refiner for any medical image segmentor, as MONAI bundles.

Importing the package loads nothing heavy: the rooms (schedulers, networks, segmentors, ...) are imported by name.
"""

__version__ = "0.1.0"
