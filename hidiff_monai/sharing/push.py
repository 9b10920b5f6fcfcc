"""A bundle on the Hugging Face hub."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from monai.bundle import push_to_hf_hub
from monai.utils import OptionalImportError

from hidiff_monai.sharing.files import list_published, read_metadata


def push_bundle(bundle: str | Path, repo: str, private: bool = True) -> str:
    """Pushes a bundle with MONAI's ``push_to_hf_hub`` and tags its version, as whoever ``hf auth login`` has let in.

    What is pushed is a copy: MONAI writes the hub's card into the folder, and would push what a run left there.

    Args:
        bundle: the bundle's folder.
        repo: ``<user or organisation>/<name>``.
        private: whether nobody else may see it.

    Returns:
        The address of the commit.

    Raises:
        ValueError: if the name of the repository is none, or huggingface_hub is not installed.
    """
    if str(repo).count("/") != 1 or not all(str(repo).split("/")):
        raise ValueError(f"--push {repo}; expected <user or organisation>/<name>: for example --push me/hidiff_drive")
    source = Path(bundle).expanduser().absolute()
    with tempfile.TemporaryDirectory() as folder:
        for file in list_published(source):
            copy = Path(folder) / source.name / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        try:
            version = str(read_metadata(source)["version"])
            return str(push_to_hf_hub(str(repo), source.name, folder, private=private, version=version))
        except OptionalImportError as error:
            raise ValueError(
                'huggingface_hub is not installed; --push needs it: pip install "hidiff-monai[hub]"'
            ) from error
