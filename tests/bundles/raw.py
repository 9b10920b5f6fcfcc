"""Made-up raw downloads of a few cases, in the names and numbering of each data set, turned into datalists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from hidiff_monai.data.prepare import prepare_dataset
from hidiff_monai.data.prepare.brats import SEQUENCES

SHAPES = {"acdc": (40, 48, 3), "brats": (32, 40, 155), "synapse": (64, 64, 3)}
VOLUMES = tuple(SHAPES)
SECTIONS = ("training", "validation", "test")
LPS = np.diag([-0.8, -0.7, 3.0, 1.0])


def make_dataset(name: str, folder: Path, shape: tuple[int, int, int] | None = None) -> tuple[Path, Path]:
    """Returns dataset_dir and datalist; each section has at least one case.

    Args:
        name: the bundle.
        folder: receives everything.
        shape: of the volumes, by default the small one in `SHAPES`.
    """
    generator = np.random.default_rng(0)
    if name not in VOLUMES:
        return folder, _write_photographs(folder, generator)
    shape = shape or SHAPES[name]
    if name == "acdc":
        for patient in (2, 3, 1):
            stem = f"patient{patient:03d}"
            for frame in (1, 9):
                target = folder / "raw" / "training" / stem / f"{stem}_frame{frame:02d}"
                _write_volume([f"{target}.nii.gz"], f"{target}_gt.nii.gz", (0, 1, 2, 3), shape, generator)
            (folder / "raw" / "training" / stem / "Info.cfg").write_text("ED: 1\nES: 9\n")
    elif name == "synapse":
        for number in ("0005", "0021", "0001"):
            paths = [
                str(folder / "raw" / kind / f"{stem}{number}.nii.gz")
                for kind, stem in (("img", "img"), ("label", "label"))
            ]
            _write_volume(paths[:1], paths[1], tuple(range(14)), shape, generator)
    else:
        for number in range(3):
            stem = folder / "raw" / f"BraTS2021_{number:05d}" / f"BraTS2021_{number:05d}"
            images = [f"{stem}_{sequence}.nii.gz" for sequence in SEQUENCES]
            _write_volume(images, f"{stem}_seg.nii.gz", (0, 1, 2, 4), shape, generator)
    dataset_dir, datalist = prepare_dataset(name, folder / "raw", folder / "prepared")
    _deal(datalist)
    return dataset_dir, datalist


def _write_volume(
    images: list[str], label: str, values: tuple[int, ...], shape: tuple[int, int, int], generator: np.random.Generator
) -> None:
    Path(label).parent.mkdir(parents=True, exist_ok=True)
    Path(images[0]).parent.mkdir(parents=True, exist_ok=True)
    classes = generator.choice(np.array(values, np.uint8), [edge // 4 for edge in shape[:2]] + [shape[2]])
    classes = classes.repeat(4, axis=0).repeat(4, axis=1)
    for channel, file in enumerate(images):
        values_here = 30 * classes.astype(np.int16) + generator.integers(0, 9 + channel, shape, dtype=np.int16)
        nibabel.save(nibabel.Nifti1Image(values_here, LPS), file)
    nibabel.save(nibabel.Nifti1Image(classes, LPS), label)


def _write_photographs(folder: Path, generator: np.random.Generator) -> Path:
    content: dict[str, Any] = {"channels": 3, "label_values": {"0": 0, "255": 1}, "label_names": ["target"]}
    folder.mkdir(parents=True, exist_ok=True)
    for number, section in enumerate(("training", *SECTIONS)):
        label = generator.random((9, 10)).repeat(8, axis=0).repeat(8, axis=1) > 0.7
        image = 90 * label[..., None] + generator.integers(0, 90, (72, 80, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
        Image.fromarray(label.astype(np.uint8) * 255).save(folder / f"{number}_mask.png")
        case = {"id": str(number), "image": f"{number}.png", "label": f"{number}_mask.png"}
        content.setdefault(section, []).append(case)
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps(content))
    return datalist


def _deal(datalist: Path) -> None:
    """Moves cases of the training to sections that are empty, as with so few patients by chance they are."""
    content = json.loads(datalist.read_text())
    for section in SECTIONS[1:]:
        if not content[section]:
            content[section].append(content["training"].pop())
    datalist.write_text(json.dumps(content))
