"""The verbs that turn downloads and folders into datalists; they import what they need when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def prepare(dataset: str, source: str, output: str) -> None:
    """Turns a raw download into a datalist (and volumes into slices); run it again to go on where it was stopped.

    Args:
        dataset: acdc, brats, chase_db1, cvc_clinicdb, cvc_clinicdb_sequences, drive, kvasir_seg, msd or synapse.
        source: the folder as it was downloaded and unpacked; nothing is written there.
        output: the folder for what is written.
    """
    from hidiff_monai.data.prepare import prepare_dataset

    _show_datalist(*prepare_dataset(dataset, source, output))


def datalist(
    source: str,
    images: str,
    labels: str,
    output: str,
    name: str | None = None,
    names: str | None = None,
    label_values: dict[int, int] | None = None,
    label_threshold: int | None = None,
    patient: str | None = None,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
) -> None:
    """Turns a folder of your own into a datalist (and volumes into slices); run it again to go on where it was stopped.

    Args:
        source: the folder with images and labels; nothing is written there.
        images: their paths below it, for example "imagesTr/{id}.nii.gz" or "{patient}/{id}.png"; * is anything;
            volumes of several channels: a pattern each, with commas between them.
        labels: as the images, for example "labelsTr/{id}.nii.gz".
        output: the folder for what is written.
        name: of the data set; the folder's where it is left out.
        names: of the classes, with commas between them, without the background.
        label_values: value in the labels to class, for example "{0:0,255:1}"; found where it is left out.
        label_threshold: for pictures whose masks JPEG has blurred: values above it are foreground, for example 127.
        patient: a regular expression whose one group is the patient in an id; each id is one where it is left out.
        validation: share of the patients that validate.
        test: share of the patients that test.
        seed: of the order in which patients are dealt.
    """
    from hidiff_monai.data.prepare.folder import Classes, Layout, Split, prepare_folder

    if label_threshold is not None and (isinstance(label_threshold, bool) or not isinstance(label_threshold, int)):
        raise ValueError(f"label_threshold {label_threshold!r}; expected a whole number: write --label_threshold 127")
    try:
        values = None if label_values is None else {int(value): int(number) for value, number in label_values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"label_values {label_values!r}; expected value to class: write --label_values '{{0:0,255:1}}'"
        ) from error
    layout = Layout(_split(images), str(labels), patient)
    classes = Classes(None if names is None else _split(names), values, label_threshold)
    split = Split(validation, test, seed)
    _show_datalist(*prepare_folder(source, output, layout, classes, split, None if name is None else str(name)))


def _split(text: Any) -> tuple[str, ...]:
    """What stands between commas; fire may have split it already."""
    parts = text if isinstance(text, (list, tuple)) else str(text).split(",")
    return tuple(str(part).strip() for part in parts)


def _show_datalist(dataset_dir: Path, file: Path) -> None:
    from hidiff_monai.data import SECTIONS, read_datalist

    datalist = read_datalist(file)
    print(", ".join(f"{name}: {len(datalist.get(name, []))} cases" for name in SECTIONS))
    if "note" in datalist:
        print(datalist["note"])
    print(f"--dataset_dir {dataset_dir} --datalist_file {file}")
