"""What the MONAI model zoo asks of a bundle, a function a rule: it returns what it found, or raises what is wrong.

The zoo's own words: its CONTRIBUTING.md and ci/verify_bundle.py. Networks and weights have rules of their own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from monai.apps.utils import SUPPORTED_HASH_TYPES, check_hash
from monai.bundle import ConfigParser, verify_metadata
from monai.bundle.properties import InferProperties, TrainProperties
from monai.utils import BundleProperty, BundlePropertyConfig

from hidiff_monai.sharing.files import LARGE_FILES, find_config, list_published, read_large_files, read_metadata

REQUIRED_FILES = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md")
SCHEMA = Path(__file__).with_name("metadata_rules.json")  # MONAI's is downloaded anew at every check
MAX_MEGABYTES = 25
# By file: MONAI's properties, required ones by their key, and what the zoo adds to them.
PROPERTIES = {"inference": InferProperties, "train": TrainProperties}
ZOO_KEYS = {
    "inference": ("output_dir",),
    "train": (
        *("output_dir", "train#trainer#max_epochs", "train#dataset", "train#dataset#data", "train#handlers"),
        *("validate#evaluator", "validate#dataset", "validate#dataset#data", "validate#handlers"),
    ),
}
# Licences that MONAI recognises when it writes the card of the hub.
LICENCES = {"Apache-2.0": ("Apache License", "Version 2.0"), "MIT": ("MIT License",)}
# Of a machine: a whole value, and within an expression or a text, where parts of other paths begin with "/" too.
HOME_OR_DRIVE = r"~[\w.-]*/|[A-Za-z]:[\\/]"
ABSOLUTE_PATH = re.compile(rf"/|\\\\|{HOME_OR_DRIVE}")
PERSONAL_PATH = re.compile(
    r"(?:^|[\s'\"=(\[,`<>{|]|file://)"
    rf"(?:/(?:data|gpfs|homes?|lustre|media|mnt|root|scratch|srv|tmp|Users|Volumes|work)/|{HOME_OR_DRIVE})"
)


def files_are_there(bundle: Path) -> str:
    """The files that every bundle has; the weights have a rule of their own."""
    missing = [name for name in REQUIRED_FILES if not (bundle / name).is_file()]
    if missing:
        raise ValueError(f"{missing} missing; expected {', '.join(REQUIRED_FILES)}: add them to {bundle}")
    return ", ".join(REQUIRED_FILES)


def licence_is_known(bundle: Path) -> str:
    """The bundle's licence is one that the card can name, and the data's terms are written down."""
    text = (bundle / "LICENSE").read_text(encoding="utf-8")
    known = [name for name, words in LICENCES.items() if all(word in text for word in words)]
    if not known:
        raise ValueError(f"LICENSE begins {text.strip()[:40]!r}; expected the text of {' or '.join(LICENCES)}: copy it")
    if not (bundle / "docs" / "data_license.txt").is_file():
        raise ValueError("docs/data_license.txt missing; expected the terms of the data it was trained on: write them")
    return f"{known[0]}, docs/data_license.txt for the data"


def metadata_fit_the_schema(bundle: Path) -> str:
    """MONAI's ``verify_metadata`` against the schema that comes with this package: no network is needed."""
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(SCHEMA))
    return f"configs/metadata.json, {len(read_metadata(bundle))} entries"


def version_is_in_the_changelog(bundle: Path) -> str:
    """A version is published once, and the changelog says what is new in it."""
    metadata = read_metadata(bundle)
    version, changelog = metadata.get("version"), metadata.get("changelog", {})
    if version not in changelog:
        raise ValueError(f"version {version} not in the changelog, which has {[*changelog]}; expected it there: add it")
    return f"{version}: {changelog[version]}"


def keys_have_their_names(bundle: Path) -> str:
    """MONAI Label, FL and Deploy look for these keys."""
    missing, count = [], 0
    for name, properties in PROPERTIES.items():
        parser = ConfigParser()
        parser.read_config(find_config(bundle, name))
        required = [item for item in properties.values() if item[BundleProperty.REQUIRED]]
        keys = dict.fromkeys(
            [*(str(item[BundlePropertyConfig.ID]).replace("::", "#") for item in required), *ZOO_KEYS[name]]
        )
        missing += [f"{key} in {name}" for key in keys if key not in parser]
        count += len(keys)
    if missing:
        raise ValueError(f"no {', no '.join(missing)}; expected these keys: add them to the files in configs")
    return f"{count} of MONAI's properties and the zoo's, in {' and '.join(PROPERTIES)}"


def paths_are_nobodys(bundle: Path) -> str:
    """No configuration, and no text, names a folder of the machine it was written on."""
    files = sorted(file for file in (bundle / "configs").glob("*") if file.suffix[1:] in ConfigParser.suffixes)
    for file in files:
        for key, value in _texts(ConfigParser.load_config_file(file), ""):
            if ABSOLUTE_PATH.match(value) or PERSONAL_PATH.search(value):
                raise ValueError(f"{file.name}: {key} is {value!r}; expected a path below bundle_root: set it so")
    texts = sorted((bundle / "docs").glob("*.md"))
    for file in texts:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if PERSONAL_PATH.search(line):
                raise ValueError(
                    f"{file.name}: line {number} is {line.strip()[:120]!r}; expected no folder of this machine: write "
                    "a name that others can fill in, for example <dataset_dir>"
                )
    return f"none in {len(files)} files of configs and {len(texts)} of docs"


def _texts(content: Any, place: str) -> list[tuple[str, str]]:
    if isinstance(content, str):
        return [(place, content)]
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [found for key, value in items for found in _texts(value, f"{place}#{key}".lstrip("#"))]


def files_are_small(bundle: Path) -> str:
    """No file is larger than the zoo takes, but those it downloads itself, named with a hash that is right."""
    large = read_large_files(bundle)
    for path, entry in large.items():
        _require_download(bundle / path, path, entry)
    sizes = {file.relative_to(bundle).as_posix(): file.stat().st_size / 1e6 for file in list_published(bundle)}
    for path, size in sizes.items():
        if size > MAX_MEGABYTES and path not in large:
            raise ValueError(
                f"{path} has {size:.1f} MB; expected at most {MAX_MEGABYTES}: upload it somewhere and name it in "
                f"{LARGE_FILES[0]}, with path, url, hash_val and hash_type"
            )
    name, size = max(sizes.items(), key=lambda item: item[1])
    return f"{len(sizes)} files, the largest {name} with {size:.2f} MB; {len(large)} in {LARGE_FILES[0]}"


def _require_download(file: Path, path: str, entry: dict[str, Any]) -> None:
    missing = [key for key in ("url", "hash_val", "hash_type") if not entry.get(key)]
    if missing or entry["hash_type"] not in SUPPORTED_HASH_TYPES:
        raise ValueError(
            f"large file {path}: no {missing or entry['hash_type']}; expected url, hash_val and hash_type, one of "
            f"{[*SUPPORTED_HASH_TYPES]}: add them to {LARGE_FILES[0]}"
        )
    if file.is_file() and not check_hash(file, str(entry["hash_val"]), str(entry["hash_type"])):
        raise ValueError(
            f"large file {path}: its {entry['hash_type']} is not {entry['hash_val']}; expected the file behind the "
            f"url: upload this one, or correct {LARGE_FILES[0]}"
        )
