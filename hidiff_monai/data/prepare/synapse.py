"""Synapse multi-organ CT (BTCV): 30 abdominal scans, 8 organs, from the raw download or from preprocessed slices."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from hidiff_monai.io.files import list_nifti, nifti_stem

from .cases import RawCase, VolumeSet
from .npz import find_preprocessed, read_preprocessed
from .volumes import find_nifti, prepare_volumes

ORGANS = ["aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach"]
# Of the raw numbers 1 spleen, 2 right kidney, 3 left kidney, 4 gallbladder, 5 oesophagus, 6 liver, 7 stomach, 8 aorta,
# 9 inferior vena cava, 10 portal and splenic veins, 11 pancreas, 12 and 13 adrenal glands:
RAW_VALUES = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8, **{value: 0 for value in (0, 5, 9, 10, 12, 13)}}
TRAINING = [f"{number:04d}" for number in (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)]
TEST = [f"{number:04d}" for number in (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)]
VALIDATION = TRAINING[5::6]  # every sixth training case: 0021, 0030 and 0040
NUM_TRAINING_SLICES = 2211
NO_SPACING = (
    " Prepared from preprocessed slices and volumes, which keep neither voxel size nor orientation: spacing is null, "
    "distances can be given in voxels only, and axes are those of the arrays."
)

logger = logging.getLogger(__name__)


def describe_synapse(label_values: dict[int, int], note: str = "") -> VolumeSet:
    """The data set, with its raw numbering or another, and what else its datalist should say."""
    return VolumeSet(
        name="Synapse",
        description="Abdominal CT in Hounsfield units, 30 scans. The test section is the usual one of 12 scans; "
        "validation holds every sixth of the 18 training scans (0021, 0030 and 0040)." + note,
        reference="B. Landman, Z. Xu, J. Igelsias, M. Styner, T. Langerak, A. Klein: Multi-Atlas Labeling Beyond the "
        "Cranial Vault, workshop and challenge. MICCAI 2015",
        licence="on registration at synapse.org (syn3193805): no redistribution; check the source",
        label_values=label_values,
        label_names=ORGANS,
    )


def prepare(source: Path, output: Path) -> Path:
    """Prepares `RawData/Training/{img,label}`, bare `img/` and `label/`, or `*.npz` slices with `*.npy.h5` volumes.

    Says so where the training scans (validation included) do not have the 2,211 slices of the published split.

    Args:
        source: the folder that holds one of these.
        output: the folder to write to.

    Returns:
        The datalist.

    Raises:
        ValueError: if the source has another layout, or any file is broken.
    """
    folders = [folder for folder in (source / "RawData" / "Training", source / "Training", source) if _is_raw(folder)]
    if folders:
        datalist = prepare_volumes(describe_synapse(RAW_VALUES), _find_raw(folders[0]), output)
    else:
        cases = find_preprocessed(source, section_of)
        own_numbers = describe_synapse({number: number for number in range(len(ORGANS) + 1)}, NO_SPACING)
        datalist = prepare_volumes(own_numbers, cases, output, read=read_preprocessed)
        _compare_organs(datalist)
    _compare_slices(datalist)
    return datalist


def section_of(number: str) -> str:
    """Section of a scan by its number of four digits.

    Raises:
        ValueError: if it is none of the 30.
    """
    if number in TEST:
        return "test"
    if number not in TRAINING:
        raise ValueError(
            f"scan {number} is none of the 30 of the published split; expected {sorted(TRAINING + TEST)}: "
            "take it out of the source folder"
        )
    return "validation" if number in VALIDATION else "training"


def _is_raw(folder: Path) -> bool:
    return bool(list_nifti(folder / "img") or list_nifti(folder / "label"))


def _find_raw(folder: Path) -> list[RawCase]:
    images = {_number(file) for file in list_nifti(folder / "img")}
    labels = {_number(file) for file in list_nifti(folder / "label")}
    return [
        RawCase(
            number,
            number,
            section_of(number),
            (find_nifti(folder / "img", f"img{number}"),),
            find_nifti(folder / "label", f"label{number}"),
        )
        for number in sorted(images | labels)
    ]


def _number(file: Path) -> str:
    match = re.fullmatch(r"(?:img|label)(\d{4})", nifti_stem(file))
    if not match:
        raise ValueError(f"{file}: strange name; expected img0001.nii.gz, label0001.nii.gz and so on: rename it")
    return match.group(1)


def _compare_slices(datalist: Path) -> None:
    content = json.loads(datalist.read_text(encoding="utf-8"))
    cases = [*content["training"], *content["validation"]]
    number = sum(case["slices"] for case in cases)
    if number != NUM_TRAINING_SLICES:
        logger.warning(
            "Synapse: %d of %d training scans (validation included) give %d slices; the published split has %d",
            len(cases),
            len(TRAINING),
            number,
            NUM_TRAINING_SLICES,
        )


def _compare_organs(datalist: Path) -> None:
    """Preprocessed labels do not say how they number the organs; a gallbladder is far smaller than a kidney."""
    geometries = [json.loads(file.read_text(encoding="utf-8")) for file in (datalist.parent / "cases").glob("*.json")]
    gallbladder, kidney = (sum(geometry["voxels"][number] for geometry in geometries) for number in (2, 3))
    if gallbladder > kidney / 2:
        logger.warning(
            "Synapse: class 2 has %d voxels and class 3 has %d; expected a gallbladder far smaller than a left kidney: "
            "these slices seem to number the organs otherwise than %s",
            gallbladder,
            kidney,
            ORGANS,
        )
