"""A made-up Synapse download of the true size, to measure what preparing, checking and loading it cost.

From the repository root, in about five minutes and 3 GB:

    python -m tests.bundles.full_synapse <folder>

writes <folder>/RawData/Training/{img,label} with the 30 scans of the published split, 512 x 512 x 85 to 198 voxels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
from tqdm import tqdm

from hidiff_monai.data.prepare.synapse import TEST, TRAINING

SIZE = 512
DEPTHS = (85, 198)  # of the thinnest and the thickest scan, as in the real data; the others lie around 125
AFFINE = np.diag([-0.8, -0.8, 3.0, 1.0])  # left, posterior, superior: reorienting has something to do
AIR, FAT, SOFT = -1000, -100, 40
# raw number: centre and radii along X, Y and Z, where body and scan reach from -1 to 1; Hounsfield units
ORGANS = {
    1: ((0.55, 0.2, 0.3), (0.16, 0.2, 0.25), 110),
    2: ((-0.35, 0.35, -0.2), (0.12, 0.14, 0.3), 160),
    3: ((0.35, 0.35, -0.2), (0.12, 0.14, 0.3), 160),
    4: ((-0.3, -0.25, 0.0), (0.07, 0.07, 0.1), 10),
    5: ((0.03, 0.2, 0.6), (0.03, 0.03, 0.15), 50),
    6: ((-0.4, -0.1, 0.3), (0.35, 0.4, 0.4), 100),
    7: ((0.25, -0.3, 0.3), (0.2, 0.2, 0.25), 30),
    8: ((0.05, 0.35, 0.0), (0.05, 0.05, 0.7), 180),
    9: ((-0.08, 0.33, 0.0), (0.05, 0.05, 0.7), 150),
    10: ((-0.05, 0.1, 0.1), (0.1, 0.04, 0.1), 160),
    11: ((0.1, 0.0, 0.05), (0.2, 0.06, 0.1), 80),
    12: ((-0.2, 0.3, 0.15), (0.04, 0.03, 0.05), 60),
    13: ((0.2, 0.3, 0.15), (0.04, 0.03, 0.05), 60),
}


def write_synapse(folder: Path, size: int = SIZE, depths: tuple[int, int] = DEPTHS) -> None:
    """Writes all 30 scans; every third image has an intercept, so that it is read as float64."""
    generator = np.random.default_rng(0)
    thin, thick = depths
    drawn = generator.triangular(thin, thin, thick, 28).astype(int)
    for kind in ("img", "label"):
        (folder / "RawData" / "Training" / kind).mkdir(parents=True, exist_ok=True)
    scans = list(zip(sorted(TRAINING + TEST), [thin, *drawn.tolist(), thick], strict=True))
    for position, (number, depth) in enumerate(tqdm(scans, desc="Drawing scans", unit="scan")):
        units, label = draw_scan(size, depth, generator)
        has_intercept = position % 3 == 2
        image = nibabel.Nifti1Image((units + 1024).astype(np.uint16) if has_intercept else units, AFFINE)
        image.header.set_slope_inter(1, -1024 if has_intercept else 0)
        target = folder / "RawData" / "Training"
        nibabel.save(image, target / "img" / f"img{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, AFFINE), target / "label" / f"label{number}.nii.gz")


def draw_scan(size: int, depth: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units (X, Y, Z), int16, and raw numbers, uint8, of an elliptic body with noise and 13 ellipsoids."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None, :] / 0.9, axis[:, None] / 0.7  # a plane is (Y, X) here: NIfTI has X fastest
    radius = np.hypot(x, y)
    body = np.select([radius < 0.88, radius < 1], [SOFT, FAT], AIR)
    scatter = np.where(radius < 1, 15, 5).astype(np.float32)
    shift = generator.uniform(-0.04, 0.04, 3)
    units, label = np.empty((depth, size, size), np.int16), np.zeros((depth, size, size), np.uint8)
    for position, z in enumerate(np.linspace(-1, 1, depth)):
        plane = body.copy()
        for number, (centre, radii, value) in ORGANS.items():
            height = 1 - ((z - centre[2] - shift[2]) / radii[2]) ** 2
            inside = ((x - centre[0] - shift[0]) / radii[0]) ** 2 + ((y - centre[1] - shift[1]) / radii[1]) ** 2
            label[position][inside < height] = number
            plane[inside < height] = value
        noise = generator.standard_normal((size, size), dtype=np.float32)
        units[position] = np.clip(plane + scatter * noise, -1024, 3071)
    return units.T, label.T


if __name__ == "__main__":
    write_synapse(Path(sys.argv[1]))
