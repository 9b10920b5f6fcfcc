"""What is known of the segments of a label."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

pytest.importorskip("monailabel", reason="MONAI Label has its own environment: make test-label")

from hidiff_monai.label.collected import collect_cases, segments_of, write_dataset  # noqa: E402
from hidiff_monai.label.served import ServedBundle  # noqa: E402
from hidiff_monai.label.strategy import MostUncertain  # noqa: E402

BUNDLES = Path(__file__).parents[2] / "bundles"


class Store:
    """As much of a datastore as is asked for here: images of a folder, labels of some of them."""

    def __init__(self, folder: Path, labels: dict[str, Path]) -> None:
        self.folder, self.labels = folder, labels
        self.infos: dict[str, dict[str, object]] = {}

    def datalist(self) -> list[dict[str, str]]:
        return [{"image": self.get_image_uri(image), "label": str(file)} for image, file in self.labels.items()]

    def get_image_uri(self, image: str) -> str:
        return str(next(self.folder.glob(f"{image}.*")))

    def get_labeled_images(self) -> list[str]:
        return list(self.labels)

    def get_unlabeled_images(self) -> list[str]:
        names = [file.name.partition(".")[0] for file in self.folder.glob("*.*")]
        return [name for name in names if name not in self.labels]

    def get_image_info(self, image: str) -> dict[str, float]:
        return {"uncertainty": float(len(image))}

    def get_label_info(self, image: str, tag: object) -> dict[str, object]:
        return self.infos.get(image, {})


SPEC = importlib.util.spec_from_file_location("series", Path(__file__).parents[1] / "io" / "series.py")
assert SPEC is not None and SPEC.loader is not None
series = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(series)


def picture(file: Path, value: int) -> Path:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(file)
    return file


def test_an_empty_label_does_not_choose_the_epoch(tmp_path: Path) -> None:
    values = {"a": 0, "b": 255, "c": 255, "d": 0}
    labels = {name: picture(tmp_path / "labels" / f"{name}.png", value) for name, value in values.items()}
    for name in values:
        picture(tmp_path / "images" / f"{name}.png", 9)
    served, store = ServedBundle(BUNDLES / "kvasir_seg", tmp_path), Store(tmp_path / "images", labels)
    cases = collect_cases(served, store, 0.25, tmp_path / "data")
    assert [case.section for case in cases] == ["training", "training", "validation", "training"]
    cases = collect_cases(served, store, 0.5, tmp_path / "half")  # two of the four would leave nothing but empty ones
    assert [case.section for case in cases] == ["training", "training", "validation", "training"]
    one = Store(tmp_path / "images", {name: labels[name] for name in ("a", "b")})
    assert [case.section for case in collect_cases(served, one, 0.5, tmp_path / "one")] == ["validation", "training"]
    only_empty = Store(tmp_path / "images", {name: labels[name] for name in ("a", "d")})
    cases = collect_cases(served, only_empty, 0.5, tmp_path / "more")
    assert [case.section for case in cases] == ["training", "validation"]


def test_one_label_is_enough_for_a_case_of_four_files(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for patient in ("p", "q"):
        for sequence in ("t1", "t1ce", "t2", "flair"):
            (images / f"{patient}_{sequence}.nii.gz").write_bytes(b"x")
    served = ServedBundle(BUNDLES / "brats", tmp_path)
    label = images / "p_t1.nii.gz"
    store = Store(images, {"p_t1": label})
    assert MostUncertain("uncertainty", served)({}, store) == {"id": "q_flair"}
    names = [f"BraTS-GLI-{number}-{sequence}.nii.gz" for number in (1, 2) for sequence in ("t1", "t1ce", "t2", "flair")]
    assert {served.case_id(images / name) for name in names} == {"BraTS-GLI-1-", "BraTS-GLI-2-"}
    store = Store(images, {"p_t1": label, "q_t1": label})
    assert MostUncertain("uncertainty", served)({}, store) is None


def test_a_case_that_is_labelled_twice_is_refused(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    zeros = np.zeros((2, 3, 4), np.uint8)
    for sequence in ("t1", "t1ce", "t2", "flair"):
        nibabel.save(nibabel.Nifti1Image(zeros, np.eye(4)), images / f"p_{sequence}.nii.gz")
    store = Store(images, {"p_t1": images / "p_t1.nii.gz", "p_t1ce": images / "p_t1.nii.gz"})
    with pytest.raises(ValueError, match="case p has labels of p_t1 and p_t1ce; expected one"):
        collect_cases(ServedBundle(BUNDLES / "brats", tmp_path), store, 0.5, tmp_path / "data")


class LinkedStore(Store):
    """Where images are links, MONAI Label's own store tells what they lead to."""

    def get_image_uri(self, image: str) -> str:
        return os.path.realpath(super().get_image_uri(image))


def test_images_that_are_links_keep_their_names_and_what_was_said_of_them(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    labels = {}
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.png").symlink_to(picture(tmp_path / f"archive_{name}" / "scan.png", ord(name)))
        labels[name] = picture(tmp_path / "labels" / f"{name}.png", 2)
    store = LinkedStore(tmp_path / "images", labels)
    store.infos = {name: {"label_info": [{"name": "polyp", "idx": 2}]} for name in labels}
    served = ServedBundle(BUNDLES / "kvasir_seg", tmp_path)
    cases = collect_cases(served, store, 0.5, tmp_path / "data")
    assert [case.id for case in cases] == ["a", "b"]
    assert all((np.asarray(Image.open(case.label)) > 0).all() for case in cases)
    write_dataset(served, cases, tmp_path / "data")
    assert {file.name for file in (tmp_path / "data" / "images").iterdir()} == {"a.png", "b.png"}


SAID = [{"name": "liver", "idx": 2}, {"name": "spleen", "idx": 1}]


def test_segments_are_those_the_viewer_sent(tmp_path: Path) -> None:
    assert segments_of({"label_info": SAID}, tmp_path) == SAID
    assert segments_of({"params": {"label_info": SAID}}, tmp_path) == SAID
    assert segments_of({"SeriesInstanceUID": "1.2.3"}, tmp_path) == []


def test_segments_of_a_dicom_server_are_those_of_its_file(tmp_path: Path) -> None:
    data = series.header()
    data.SegmentSequence = [Dataset(), Dataset()]
    for item, said in zip(data.SegmentSequence, SAID, strict=True):
        item.SegmentLabel, item.SegmentNumber = said["name"], said["idx"]
    series.save(data, tmp_path / "1.2.3" / "a.dcm")
    assert segments_of({"SeriesInstanceUID": "1.2.3"}, tmp_path) == SAID
