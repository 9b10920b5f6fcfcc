"""Medical Segmentation Decathlon, liver, pancreas and spleen: ten volumes each to test what was trained on Synapse."""

from __future__ import annotations

from pathlib import Path

from hidiff_monai.io.files import list_nifti, nifti_stem

from .cases import RawCase, VolumeSet
from .splits import draw_order
from .synapse import ORGANS
from .volumes import find_nifti, prepare_volumes

SEED = 2018
NUM_VOLUMES = 10
VALUES = {"liver": (1, 2), "pancreas": (1, 2), "spleen": (1,)}  # organ and the tumour in it


def prepare(source: Path, output: Path) -> Path:
    """Prepares `imagesTr/` and `labelsTr/` of Task03_Liver, Task07_Pancreas or Task09_Spleen, as a test section only.

    Classes have the numbers they have in Synapse; all organs but the one of the task are unlabelled.

    Args:
        source: the folder of the task.
        output: the folder to write to.

    Returns:
        The datalist.

    Raises:
        ValueError: if the folder holds none of the three tasks, or any file is broken.
    """
    stems = {nifti_stem(file) for kind in ("imagesTr", "labelsTr") for file in list_nifti(source / kind)}
    organs = {stem.split("_")[0] for stem in stems}
    if len(organs) != 1 or not organs <= VALUES.keys():
        raise ValueError(
            f"{source}: imagesTr/ and labelsTr/ hold files of {sorted(organs)}; expected one of {sorted(VALUES)}: "
            f"name the folder of one task as source, for example Task09_Spleen"
        )
    (organ,) = organs
    drawn = sorted(draw_order(stems, SEED)[:NUM_VOLUMES])
    cases = [
        RawCase(stem, stem, "test", (find_nifti(source / "imagesTr", stem),), find_nifti(source / "labelsTr", stem))
        for stem in drawn
    ]
    return prepare_volumes(_describe(organ), cases, output)


def _describe(organ: str) -> VolumeSet:
    return VolumeSet(
        name=f"MSD {organ}",
        description=f"{NUM_VOLUMES} labelled volumes of the task '{organ}', the first by SHA-256 of '{SEED}:<name>', "
        "with the class numbers of Synapse. Only this organ is labelled: score no other.",
        reference="M. Antonelli, A. Reinke, S. Bakas et al.: The Medical Segmentation Decathlon. Nature Communications "
        "13, 4128, 2022",
        licence="CC BY-SA 4.0 as far as known: check the source before you redistribute anything",
        label_values={0: 0, **{value: ORGANS.index(organ) + 1 for value in VALUES[organ]}},
        label_names=ORGANS,
        labelled_names=[organ],
    )
