"""What readers have labelled, as a data set that the bundle's training takes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from hidiff_monai.data import read_pixels
from hidiff_monai.data.prepare.cases import RawCase, VolumeSet
from hidiff_monai.data.prepare.images import write_image_datalist
from hidiff_monai.data.prepare.volumes import prepare_volumes
from hidiff_monai.io.files import is_nifti, nifti_stem
from hidiff_monai.label.labels import write_classes
from hidiff_monai.label.served import ServedBundle

UNSTATED = "not stated"


def collect_cases(served: ServedBundle, datastore: Datastore, val_split: float, folder: Path) -> list[RawCase]:
    """The images with a final label, dealt into training and validation in the order of their names.

    An empty label chooses no epoch, and alone teaches no shape: of those that hold something the last ones validate,
    and at least one trains.

    Args:
        served: the bundle.
        datastore: images and labels.
        val_split: share of the images that validate; at least one does, and one trains.
        folder: receives the labels, as class numbers.

    Raises:
        ValueError: if fewer than two images are labelled, a case is labelled twice, or a label is none of the bundle's.
    """
    pairs = sorted((Path(pair["image"]), Path(pair["label"])) for pair in datastore.datalist())
    if len(pairs) < 2:
        raise ValueError(
            f"{len(pairs)} labelled image(s); expected two or more, as one validates: label another and submit it"
        )
    if not 0 < val_split < 1:
        raise ValueError(f"val_split {val_split}; expected a share between 0 and 1, for example 0.2")
    ids = {str(datastore.get_image_uri(name)): name for name in datastore.get_labeled_images()}  # files may be links
    labelled: dict[str, str] = {}
    cases = []
    for image, saved in pairs:
        name = ids.get(str(image)) or (nifti_stem(image) if is_nifti(image) else image.stem)
        item = {**served.find_case(image), **({} if served.is_grouped else {"id": name})}
        if item["id"] in labelled:
            raise ValueError(
                f"case {item['id']} has labels of {labelled[item['id']]} and {name}; expected one label a "
                "case: delete one of them"
            )
        labelled[item["id"]] = name
        cases.append(_collect(served, datastore, name, saved, item, folder))
    validating = set(_choose_validation(cases, val_split))
    return [replace(case, section="validation" if case.id in validating else "training") for case in cases]


def _choose_validation(cases: Sequence[RawCase], val_split: float) -> list[str]:
    filled = [case.id for case in cases if read_pixels(case.label).array.any()]
    if len(filled) > 1:
        candidates, most = filled, len(filled) - 1
    else:  # the one that holds something trains
        candidates, most = [case.id for case in cases if case.id not in filled], len(cases) - 1
    return candidates[-min(max(1, round(val_split * len(cases))), most) :]


def _collect(
    served: ServedBundle, datastore: Datastore, name: str, saved: Path, item: dict[str, Any], folder: Path
) -> RawCase:
    info = datastore.get_label_info(name, DefaultLabelTag.FINAL)
    segments = segments_of(info, saved.parent)
    files = item["image"] if isinstance(item["image"], list) else [item["image"]]
    label = write_classes(saved, folder / "labels" / item["id"], served.names, segments)
    return RawCase(item["id"], item["id"], "training", tuple(Path(file) for file in files), label)


def segments_of(info: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Name and value of each segment: as the viewer sent them, or as they stand in the DICOM-SEG of a DICOM server.

    Args:
        info: what the datastore knows of the label.
        folder: where the label lies, with what was downloaded for it beside it.
    """
    said: list[dict[str, Any]] = info.get("label_info") or info.get("params", {}).get("label_info") or []
    series = folder / str(info.get("SeriesInstanceUID"))
    if said or not series.is_dir():
        return said
    header = pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True)
    return [{"name": str(item.SegmentLabel), "idx": int(item.SegmentNumber)} for item in header.SegmentSequence]


def write_dataset(served: ServedBundle, cases: Sequence[RawCase], folder: Path) -> Path:
    """Writes the datalist, and slices of volumes or copies of photographs; returns the datalist.

    Args:
        served: the bundle.
        cases: of `collect_cases`, whose labels lie in the folder.
        folder: the data set's.

    Raises:
        ValueError: that lists every problem of every file, for example a label on another grid than its image.
    """
    name = f"{served.bundle.name}, readers' labels"
    if served.is_volumetric:
        return prepare_volumes(_describe_volumes(name, served, cases), list(cases), folder)
    sections: dict[str, list[dict[str, str]]] = {"training": [], "validation": [], "test": []}
    for case in cases:
        image = folder / "images" / f"{case.id}{case.images[0].suffix}"
        image.parent.mkdir(exist_ok=True)
        shutil.copyfile(case.images[0], image)
        paths = {"image": image.relative_to(folder).as_posix(), "label": case.label.relative_to(folder).as_posix()}
        sections[case.section].append({"id": case.id, **paths})
    values = {str(number): number for number in range(len(served.names) + 1)}
    channels = read_pixels(cases[0].images[0]).channels
    head = {"name": name, "channels": channels, "label_values": values, "label_names": served.names}
    return write_image_datalist(head, sections, folder, folder)


def _describe_volumes(name: str, served: ServedBundle, cases: Sequence[RawCase]) -> VolumeSet:
    return VolumeSet(
        name,
        description="Saved by readers in MONAI Label.",
        reference=UNSTATED,
        licence=UNSTATED,
        label_values={number: number for number in range(len(served.names) + 1)},
        label_names=served.names,
        channels=len(cases[0].images),
        acquired=served.keeps_planes,
    )
