"""The bundle that a server serves, the weights it takes, and the folder in which the readers' work is kept."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hidiff_monai.data.scans import split_sequence
from hidiff_monai.io.files import is_nifti, list_nifti, nifti_stem
from hidiff_monai.prediction import load_model
from hidiff_monai.prediction.model import (
    Model,
    build_part,
    class_names,
    find_checkpoint,
    is_foreign,
    parse_config,
    read_config,
)

WEIGHTS = ("latest", "bundle")


class ServedBundle:
    """Finds weights and cases, and keeps the model that was loaded last.

    Args:
        bundle: the bundle's folder.
        work: receives what readers train: ``trainings/`` and, of the last one, ``models/model.pt``.
        checkpoint: the weights that readers start from; None for the bundle's.

    Attributes:
        names: the classes without the background; class k is ``names[k - 1]``.
        is_volumetric: whether cases are volumes, else photographs.

    Raises:
        ValueError: if the folder is no bundle.
    """

    def __init__(self, bundle: str | Path, work: str | Path, checkpoint: str | Path | None = None) -> None:
        self.bundle, self.work = Path(bundle), Path(work)
        self.given = Path(checkpoint) if checkpoint else None
        self.metadata = read_config(self.bundle, "metadata.json")
        self.names, _ = class_names(self.metadata)
        self._config = read_config(self.bundle, "inference.json")
        self.is_volumetric = "inferer" in self._config["inferer"]
        self._loaded: tuple[Any, Model] | None = None

    @property
    def keeps_planes(self) -> bool:
        """Whether volumes are cut as they were acquired, see `LoadScand`."""
        preprocessing = build_part(parse_config(self._config, {}, {}), "preprocessing", {})
        return any(getattr(transform, "acquired", False) for transform in preprocessing.transforms)

    @property
    def is_grouped(self) -> bool:
        """Whether a case is several files of one folder, one a channel."""
        return self.is_volumetric and self.metadata["network_data_format"]["inputs"]["image"]["num_channels"] > 1

    @cached_property
    def _sequences(self) -> list[str]:
        """As `list_volumes` is given them."""
        listed = re.search(r"\[[^]]*\]", str(self._config["dataset"]["data"]))
        return ast.literal_eval(listed.group()) if listed else []

    def case_id(self, file: Path) -> str:
        """What the files of a case of several have in common; the whole name of a file that ends in no sequence."""
        stem = nifti_stem(file)
        parts = split_sequence(stem, self._sequences)
        return stem if parts is None else "".join(parts[:2])

    @property
    def trained(self) -> Path:
        """The weights of the readers' last training; the file may not be there yet."""
        return self.work / "models" / "model.pt"

    def weights(self, choice: str = "latest") -> Path:
        """The file of the weights.

        Args:
            choice: "latest" for those of the readers' last training, if there was one; "bundle" for those before.

        Raises:
            ValueError: if the choice is unknown, or there are none.
        """
        if choice not in WEIGHTS:
            raise ValueError(f"weights {choice!r}; expected one of {list(WEIGHTS)}: correct the option of the request")
        if choice == "latest" and self.trained.is_file():
            return self.trained
        return self.given or find_checkpoint(self.bundle)

    @property
    def has_weights(self) -> bool:
        """Whether there are any to start from."""
        try:
            return self.weights().is_file()
        except ValueError:
            return False

    def open(self, file: str | Path, device: str, choice: str = "latest") -> tuple[Model, dict[str, Any]]:
        """The model, ready to predict, and the item of a case.

        Args:
            file: an image; of a case of several files any one, with the others beside it.
            device: "cpu", "cuda" or "cuda:1".
            choice: see `weights`.

        Raises:
            ValueError: if there is no such case, or the weights do not fit.
        """
        weights = self.weights(choice)
        key = (weights, weights.stat().st_mtime_ns, device)
        with self._source(Path(file)) as source:
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = key, load_model(self.bundle, source, weights, device, overrides=self._unfitted(weights))
            return self._loaded[1], self._find(source)

    def _unfitted(self, weights: Path) -> dict[str, float]:
        """The bundle's temperature belongs to its own weights: others are served without, at its threshold."""
        if weights != self.trained and not is_foreign(self.bundle, weights):
            return {}
        neutral = {**self._config, "temperature": 1.0}
        return {key: neutral[key] for key in ("temperature", "threshold") if key in self._config}

    def find_case(self, file: str | Path) -> dict[str, Any]:
        """The item of a case, as `open` gives it."""
        with self._source(Path(file)) as source:
            return self._find(source)

    def _find(self, source: Path) -> dict[str, Any]:
        places = {"bundle_root": str(self.bundle), "dataset_dir": str(source)}
        (item, *_) = parse_config(self._config, {}, places).get_parsed_content("dataset#data")
        files = item["image"]
        found = os.path.realpath(files) if isinstance(files, str) else [os.path.realpath(file) for file in files]
        return {**item, "image": found}

    @contextmanager
    def _source(self, file: Path) -> Iterator[Path]:
        """What the bundle lists as one case: the file, or a folder with its sisters, one a channel."""
        if not self.is_grouped or not is_nifti(file):
            yield file
            return
        patient = self.case_id(file)
        with TemporaryDirectory() as folder:
            for sister in list_nifti(file.parent):
                if self.case_id(sister) == patient:
                    (Path(folder) / sister.name).symlink_to(sister.absolute())
            yield Path(folder)
