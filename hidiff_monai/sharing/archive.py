"""A bundle as the archive that the model zoo hosts."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hidiff_monai.io import write_atomically
from hidiff_monai.sharing.files import LARGE_FILES, list_published, read_large_files, read_metadata

MOMENT = (2022, 5, 30, 0, 0, 0)  # the zoo's: the same files make the same archive


def zip_bundle(bundle: str | Path, folder: str | Path) -> Path:
    """Writes ``<folder>/<bundle>_v<version>.zip``; equal bundles give equal bytes.

    What a run left in the bundle's folder stays out, and so does ``large_files.yml``: what it names is in the archive.

    Args:
        bundle: the bundle's folder.
        folder: receives the archive.

    Raises:
        ValueError: if ``folder`` is named like an archive, the bundle has no metadata, or a large file is not there.
    """
    source, target = Path(bundle).expanduser().absolute(), Path(folder).expanduser()
    name = f"{source.name}_v{read_metadata(source)['version']}.zip"
    if target.suffix == ".zip":
        raise ValueError(f"--zip {folder}; expected a folder, in which {name} is written: give {target.parent}")
    absent = [path for path in read_large_files(source) if not (source / path).is_file()]
    if absent:
        raise ValueError(
            f"{source}: {', '.join(absent)} of {LARGE_FILES[0]} not there; expected every file in the archive: "
            f"python -m monai.bundle download_large_files --bundle_path {source}"
        )
    with (
        write_atomically(target / name) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for file in list_published(source):
            path = file.relative_to(source)
            if path.as_posix() not in LARGE_FILES:
                entry = zipfile.ZipInfo(f"{source.name}/{path.as_posix()}", MOMENT)
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return target / name
