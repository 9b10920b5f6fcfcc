"""BraTS 2021: four MR sequences of the brain; necrotic core, oedema and enhancing tumour."""

from __future__ import annotations

from pathlib import Path

from .cases import RawCase, VolumeSet
from .splits import draw_order
from .volumes import find_nifti, prepare_volumes

SEQUENCES = ("t1", "t1ce", "t2", "flair")
SEED = 2021
TEST_SHARE = 125 / 1251
VALIDATION_SHARE = 56 / 1251
BRATS = VolumeSet(
    name="BraTS-2021",
    description="Gliomas in four registered MR sequences (T1, T1 with contrast, T2, FLAIR), axial slices 80 to 128 of "
    f"155. The published 1126/125 split is not public: patients are ordered by SHA-256 of '{SEED}:<folder name>', the "
    "first 125 of 1251 test, the next 56 validate and the other 1070 train.",
    reference="U. Baid, S. Ghodasara, S. Mohan et al.: The RSNA-ASNR-MICCAI BraTS 2021 benchmark on brain tumor "
    "segmentation and radiogenomic classification. arXiv:2107.02314, 2021",
    licence="terms of the BraTS challenge: research only, no redistribution; check the source",
    label_values={0: 0, 1: 1, 2: 2, 4: 3},
    label_names=["necrotic core", "oedema", "enhancing tumour"],
    channels=len(SEQUENCES),
    depth=155,
    discard=(80, 26),
)


def prepare(source: Path, output: Path) -> Path:
    """Prepares one folder a patient, `BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz`.

    Args:
        source: the folder of all patients, or the one above it.
        output: the folder to write to.

    Returns:
        The datalist.

    Raises:
        ValueError: if there is no patient, or any file is broken.
    """
    patients = _folders(source)
    if len(patients) == 1 and _folders(patients[0]):  # as unpacked: one folder that holds those of the patients
        patients = _folders(patients[0])
    if not patients:
        raise ValueError(f"{source}: no folders BraTS*; expected one folder a patient, as downloaded: correct source")
    sections = split_patients([folder.name for folder in patients])
    cases = [
        RawCase(
            id=folder.name,
            patient=folder.name,
            section=sections[folder.name],
            images=tuple(find_nifti(folder, f"{folder.name}_{sequence}") for sequence in SEQUENCES),
            label=find_nifti(folder, f"{folder.name}_seg"),
        )
        for folder in patients
    ]
    return prepare_volumes(BRATS, cases, output)


def _folders(parent: Path) -> list[Path]:
    return sorted(folder for folder in parent.glob("BraTS*") if folder.is_dir())


def split_patients(names: list[str]) -> dict[str, str]:
    """Section of each patient; shares are the published ones, so all 1251 give 125 of them to the test."""
    order = draw_order(names, SEED)
    num_test, num_validation = (round(share * len(names)) for share in (TEST_SHARE, VALIDATION_SHARE))
    held_out = num_test + num_validation
    return {
        name: "test" if place < num_test else "validation" if place < held_out else "training"
        for place, name in enumerate(order)
    }
