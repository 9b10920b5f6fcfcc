"""Labels as readers save them, on the way to training: a number for each class, whatever a viewer made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import itk
import nibabel
import numpy as np

from hidiff_monai.data import read_pixels
from hidiff_monai.data.reading import UNREADABLE, Pixels
from hidiff_monai.io.files import IMAGE_SUFFIXES, NIFTI_SUFFIXES
from hidiff_monai.io.images import read_orientation, write_mask


def write_classes(source: Path, target: Path, names: Sequence[str], info: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Writes a label with its values turned into class numbers, on its own grid, as NIfTI or PNG.

    A viewer numbers segments in the order in which they stand there, so a class that was deleted or drawn anew has
    another value than the network gave it; ``info`` says which.

    Args:
        source: the label as it was saved.
        target: the file to write, without its ending. A picture keeps the EXIF orientation of the saved one.
        names: of the classes 1 ... K.
        info: "name" and "idx" (its value) of each segment; empty where nobody said: then values are class numbers,
            and of a single class any one value; in a picture also the upper half of several, as a soft brush leaves.

    Returns:
        The file that was written.

    Raises:
        ValueError: if the label cannot be read, or holds a segment or value that is no class.
    """
    try:
        pixels = _read(source)
    except UNREADABLE as error:
        if isinstance(error, ValueError) and str(error).startswith(str(source)):
            raise
        raise ValueError(f"{source}: not readable ({type(error).__name__}); expected a label: save it again") from error
    values = pixels.array[..., 0]
    if pixels.channels > 1 and np.ptp(pixels.array[..., :3], axis=-1).any():
        raise ValueError(f"{source}: {pixels.channels} channels; expected one: save the label in grey")
    if pixels.affine is None and len(names) == 1 and not info:
        values = (values > values.max() / 2).astype(np.uint8)
    meaning = _meaning(source, [int(value) for value in np.unique(values)], names, info)
    classes = np.zeros(values.shape, np.uint8)
    for value, number in meaning.items():
        classes[values == value] = number
    target.parent.mkdir(parents=True, exist_ok=True)
    if pixels.affine is None:
        file = target.with_name(f"{target.name}.png")
        write_mask(file, classes, read_orientation(source))
    else:
        file = target.with_name(f"{target.name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(classes, pixels.affine), file)
    return file


def _read(source: Path) -> Pixels:
    name = source.name.lower()
    if name.endswith((*NIFTI_SUFFIXES, *IMAGE_SUFFIXES)):
        return read_pixels(source)
    if not name.endswith(".nrrd") or name.endswith(".seg.nrrd"):
        raise ValueError(
            f"{source}: expected .nii.gz, .nrrd or a picture: set the file extension in the viewer's settings"
        )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "label.nii.gz"
        itk.imwrite(itk.imread(source), file)
        return read_pixels(file)


def _meaning(source: Path, found: list[int], names: Sequence[str], info: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Class number of each value that a label holds, without the background's."""
    values = [value for value in found if value != 0]
    if not info and len(names) == 1 and len(values) <= 1:
        return {value: 1 for value in values}
    numbers = {name.casefold(): number for number, name in enumerate(names, start=1)}
    said = {int(entry["idx"]): str(entry["name"]) for entry in info} or dict(enumerate(names, start=1))
    meaning = {value: numbers.get(said.get(value, "").casefold()) for value in values}
    strange = [said.get(value, f"value {value}") for value, number in meaning.items() if number is None]
    if strange:
        raise ValueError(
            f"{source}: holds {strange}; expected only {list(names)}: rename or remove these segments and save again"
        )
    return {value: number for value, number in meaning.items() if number is not None}
