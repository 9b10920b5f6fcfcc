"""`hidiff label`: what a server needs, checked before it starts."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.io.files import NIFTI_SUFFIXES
from hidiff_monai.label.served import ServedBundle

MAIN = (
    '"""Where MONAI Label looks for its application."""\n\nfrom hidiff_monai.label.app import HiDiffApp  # noqa: F401\n'
)
SEARCH_FILTER = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER"
PICTURES = ("png", "jpg", "jpeg", "tif", "tiff", "bmp")


def serve_bundle(
    bundle: str | Path,
    studies: str | None = None,
    output: str | Path | None = None,
    checkpoint: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Runs a MONAI Label server until it is stopped.

    Args:
        bundle: the bundle's folder.
        studies: the images: a folder, or the address of a DICOMweb server; None for ``studies`` in the output.
        output: receives weights and logs; None for ``output/label`` of the bundle.
        checkpoint: the weights to start from; None for the bundle's.
        host: the address to listen at; the server asks nobody who they are.
        port: likewise.

    Raises:
        ValueError: if MONAI Label, the bundle, the weights or the folder of images is not there, the output cannot be
            written, or the bundle has no modality to ask a DICOMweb server for.
    """
    if find_spec("monailabel") is None:
        raise ValueError(
            "monailabel is not installed here; expected its own environment: run `make label BUNDLE=drive`"
        )
    folder = Path(bundle).expanduser().absolute()
    work = Path(output).expanduser().absolute() if output else folder / "output" / "label"
    weights = Path(checkpoint).expanduser().absolute() if checkpoint else None
    served = ServedBundle(folder, work, weights)
    if served.given is not None and not served.given.is_file():
        raise ValueError(f"--checkpoint {weights}: there is no such file; expected weights: correct the path")
    place = str(studies) if studies else str(work / "studies")
    is_remote = place.startswith(("http://", "https://"))
    images = Path(place).expanduser().absolute()
    if studies and not is_remote and not images.is_dir():
        raise ValueError(f"--studies {images}: there is no such folder; expected one with images: correct the path")
    _set_environment(served, is_remote)
    with write_atomically(require_writable(work) / "main.py") as temporary:
        temporary.write_text(MAIN, encoding="utf-8")
    if not is_remote:
        place = str(require_writable(images))
    print(
        f"{folder.name}: images in {place}; open http://{host}:{port} in 3D Slicer's MONAI Label or in a browser",
        flush=True,
    )
    if weights is not None and served.trained.is_file():
        print(
            f"--checkpoint {weights} waits: the weights of the readers' last training are served, {served.trained}; "
            "move that file away to begin from yours",
            flush=True,
        )
    options = {"app": work, "studies": place, "host": host, "port": port}
    conf = {"bundle": folder, "checkpoint": weights or ""}
    _start(
        [
            *(f"--{name}={value}" for name, value in options.items()),
            *(part for name, value in conf.items() for part in ("--conf", name, str(value))),
        ]
    )


def _set_environment(served: ServedBundle, is_remote: bool) -> None:
    """MONAI Label's settings, as far as the user has not set them."""
    endings = [suffix.removeprefix(".") for suffix in NIFTI_SUFFIXES] if served.is_volumetric else PICTURES
    modality = served.metadata["network_data_format"]["inputs"]["image"]["modality"]
    if is_remote and not re.fullmatch("[A-Z]{2}", modality) and SEARCH_FILTER not in os.environ:
        raise ValueError(
            f"modality of {served.bundle.name} is {modality!r}; expected DICOM's CT, MR or the like, which a DICOMweb "
            "server is asked for: set it in configs/metadata.json, or the environment's "
            f'{SEARCH_FILTER}=\'{{"Modality": "MR"}}\''
        )
    settings = {
        "MONAI_LABEL_DATASTORE_FILE_EXT": [f"*.{case}" for ending in endings for case in (ending, ending.upper())],
        SEARCH_FILTER: {"Modality": modality},  # CT, unless it is told
        "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": 10,  # seconds: its two hours would hide new series and labels
    }
    for name, value in settings.items():
        os.environ.setdefault(name, json.dumps(value))


def _start(arguments: list[str]) -> None:
    from monailabel.main import Main

    sys.argv = ["monailabel", "start_server", *arguments]
    Main().run()
