"""Files of a folder by patterns: which belong to one case, and what no partner was found for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..validate import Problem

FIELDS = ("patient", "id")
PLACEHOLDER = re.compile(r"(\{\w+\}|\*)")
Key = tuple[str, ...]  # what stood in the place of each of FIELDS, "" where a pattern lacks one


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case, with the paths that the patterns give where one is missing."""

    id: str
    patient: str
    images: tuple[Path, ...]
    label: Path


class Pattern:
    """A path below a folder in which `{id}` and `{patient}` stand for a name, and `*` for anything but a slash.

    Args:
        option: what the user set it with, for messages.
        text: the pattern.

    Raises:
        ValueError: if it has another placeholder, none at all, or leads out of the folder.
    """

    def __init__(self, option: str, text: str) -> None:
        self.option, self.text = option, text
        names = [part[1:-1] for part in PLACEHOLDER.findall(text) if part != "*"]
        self.fields = {name for name in names if name in FIELDS}
        if not self.fields or len(self.fields) < len(set(names)):
            raise ValueError(
                f"{option} '{text}' has placeholders {names}; expected {{id}}, {{patient}} or both: add it"
            )
        if Path(text).is_absolute() or ".." in Path(text).parts:
            raise ValueError(f"{option} '{text}' leads out of the source; expected a path below it: name it from there")
        self.num_literals = len(PLACEHOLDER.sub("", text))
        self._regex = re.compile(self._expression())

    def _expression(self) -> str:
        seen: set[str] = set()
        parts = []
        for part in PLACEHOLDER.split(self.text):
            name = part[1:-1]
            if part == "*":
                parts.append("[^/]*")
            elif not PLACEHOLDER.fullmatch(part):
                parts.append(re.escape(part))
            else:
                parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
                seen.add(name)
        return "".join(parts)

    def match(self, path: str) -> Key | None:
        """What stands in the place of the fields; None for a path that is not meant."""
        found = self._regex.fullmatch(path)
        return None if found is None else tuple(found.groupdict().get(name, "") for name in FIELDS)

    def find(self, folder: Path) -> dict[str, Key]:
        """Paths of the matching files, relative to the folder and sorted; hidden ones are not meant."""
        glob = PLACEHOLDER.sub("*", re.sub(r"[\[?]", r"[\g<0>]", self.text))
        paths = (file.relative_to(folder) for file in folder.glob(glob) if file.is_file())
        shown = sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
        found = {path: key for path in shown if (key := self.match(path)) is not None}
        for path in found:
            if path.encode("utf-8", "replace").decode() != path:
                raise ValueError(f"{ascii(path)}: a name that is no UTF-8; expected text: rename it, as with convmv")
        return found

    def fill(self, key: Key) -> str:
        """The path of a key; `*` stays."""
        text = self.text
        for name, value in zip(FIELDS, key, strict=True):
            text = text.replace(f"{{{name}}}", value)
        return text


def find_case_files(
    source: Path, images: Sequence[str], labels: str, patient: str | None = None
) -> tuple[list[CaseFiles], list[Problem]]:
    """The cases in a folder, sorted by id, and files of which there are two for one.

    A file that suits two patterns belongs to that with more letters: `{id}_mask.png` rather than `{id}.png`.

    Args:
        source: the folder.
        images: a pattern a channel.
        labels: the pattern of the labels.
        patient: a regular expression with one group that finds the patient in an id.

    Raises:
        ValueError: if patterns are wrong, match nothing, or have no case in common, or an id names no patient.
    """
    patterns = [Pattern("images", text) for text in images] + [Pattern("labels", labels)]
    _require_alike(patterns)
    found = _find(source, patterns)
    keys = sorted({key for _, by_key in found for key in by_key})
    _require_pairs(source, found)
    cases, problems = [], []
    for key in keys:
        case_id = "_".join(part for part in key if part)
        paths = [by_key.get(key, [pattern.fill(key)]) for pattern, by_key in found]
        for (first, *others), (pattern, _) in zip(paths, found, strict=True):
            for other in others:
                mend = f"make {pattern.option} tell them apart, or remove one"
                text = f"the second file of a case, beside {first}"
                problems.append(Problem(case_id, pattern.option, other, text, "one file a pattern and case", mend))
        *image_files, label = [source / options[0] for options in paths]
        who = key[0] or _find_patient(case_id, patient)
        cases.append(CaseFiles(case_id, who, tuple(image_files), label))
    return cases, problems


def _require_alike(patterns: list[Pattern]) -> None:
    """Every pattern once, all with the same placeholders."""
    first = patterns[0]
    for pattern in patterns[1:]:
        if pattern.fields != first.fields:
            raise ValueError(
                f"{pattern.option} '{pattern.text}' has {sorted(pattern.fields)}, {first.option} '{first.text}' has "
                f"{sorted(first.fields)}; expected the same in all: write * for what only one of them has, and find "
                "the patient in the id with --patient"
            )
    texts = [pattern.text for pattern in patterns]
    if len(set(texts)) < len(texts):
        raise ValueError(f"patterns {texts}; expected different ones for images and labels: correct one of them")


def _find(source: Path, patterns: list[Pattern]) -> list[tuple[Pattern, dict[Key, list[str]]]]:
    """For each pattern the files of each key; a file belongs to one pattern only."""
    matches = [pattern.find(source) for pattern in patterns]
    literals = [pattern.num_literals for pattern in patterns]
    found: list[tuple[Pattern, dict[Key, list[str]]]] = []
    for pattern, paths in zip(patterns, matches, strict=True):
        by_key: dict[Key, list[str]] = {}
        for path, key in paths.items():
            rivals = [number for number, other in zip(literals, matches, strict=True) if path in other]
            if pattern.num_literals == max(rivals):
                by_key.setdefault(key, []).append(path)
        if not by_key:
            raise ValueError(
                f"{source}: no file matches {pattern.option} '{pattern.text}'; expected one for each case: correct "
                f"--{pattern.option} or --source; there are {_examples(source)}"
            )
        found.append((pattern, by_key))
    return found


def _require_pairs(source: Path, found: list[tuple[Pattern, dict[Key, list[str]]]]) -> None:
    (first, images), (label, labels) = found[0], found[-1]
    if not images.keys() & labels.keys():
        one, other = (next(iter(by_key.values()))[0] for by_key in (images, labels))
        raise ValueError(
            f"{source}: '{first.text}' ({len(images)} files, such as {one}) and '{label.text}' ({len(labels)}, such as "
            f"{other}) have no case in common; expected the same {{id}} in both: correct --images or --labels"
        )


def _examples(source: Path) -> str:
    """A file of each of the first folders, to see how they are named."""
    files = islice((file for file in source.rglob("*") if file.is_file() and not file.name.startswith(".")), 5000)
    by_folder = {file.parent: file.relative_to(source).as_posix() for file in files}
    return ", ".join(sorted(by_folder.values())[:5]) or "no files at all"


def _find_patient(case_id: str, expression: str | None) -> str:
    if expression is None:
        return case_id
    mend = "expected a regular expression with one group that every id holds, such as '^(p[0-9]+)_': correct --patient"
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise ValueError(f"patient '{expression}': {error}; {mend}") from error
    if compiled.groups != 1:
        raise ValueError(f"patient '{expression}' has {compiled.groups} groups; {mend}")
    found = compiled.search(case_id)
    if found is None or not found[1]:
        raise ValueError(f"patient '{expression}' finds none in id '{case_id}'; {mend}")
    return found[1]
