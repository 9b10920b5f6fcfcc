"""A bundle behind a MONAI Label server: masks for 3D Slicer and OHIF, and training from what their readers save.

MONAI Label has an environment of its own (`make label`); nothing here is imported by the rest of the package.
"""
