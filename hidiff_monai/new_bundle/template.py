"""The configurations of a bundle, changed where a key or an expression is really there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hidiff_monai

CONFIGS = ("metadata", "train", "evaluate", "inference", "multi_gpu_train", "multi_gpu_evaluate")
MAX_LINE = 100


class Config:
    """One JSON file of a template.

    Args:
        file: where it lies.

    Raises:
        ValueError: if it is missing or not JSON.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: not readable ({error}); expected a bundle: name another --template") from error

    def get(self, key: str) -> Any:
        """The value of a key such as ``train#dataset#data``; numbers are places in a list."""
        parent, last = self._place(key)
        return parent[last]

    def set(self, key: str, value: Any) -> None:
        """Changes a key that is there."""
        parent, last = self._place(key)
        parent[last] = value

    def insert_after(self, neighbour: str, key: str, value: Any) -> None:
        """Adds a top-level key below another, or changes it."""
        self._place(neighbour)
        self.content.pop(key, None)
        items = list(self.content.items())
        position = 1 + list(self.content).index(neighbour)
        self.content = dict([*items[:position], (key, value), *items[position:]])

    def substitute(self, key: str, pattern: str, replacement: str) -> None:
        """Replaces the one place in an expression that a regular expression describes."""
        expression = str(self.get(key))
        changed, number = re.subn(pattern, lambda _: replacement, expression)
        if number != 1:
            raise ValueError(
                f"{self.file}: {key} is {expression!r}; expected {pattern!r} once in it, to put {replacement!r} there: "
                "name another --template, or restore that file"
            )
        self.set(key, changed)

    def _place(self, key: str) -> tuple[Any, Any]:
        parent: Any = self.content
        whole = [name for name in self.content if key == name or key.startswith(f"{name}#")]
        first = max(whole, key=len, default=key.split("#")[0])  # evaluate.json's own keys hold a #
        parts = [first, *key.removeprefix(first).split("#")[1:]]
        for number, part in enumerate(parts):
            index = int(part) if isinstance(parent, list) else part
            if isinstance(parent, dict) and index not in parent:
                raise ValueError(f"{self.file}: no key '{key}'; expected it in a template: name another --template")
            if number == len(parts) - 1:
                return parent, index
            parent = parent[index]
        raise AssertionError("a key has one part or more")

    def format(self) -> str:
        """JSON as people write it here: lists of numbers or words on one line."""
        return _format(self.content, 0) + "\n"


def find_template(name: str, template: str | Path | None) -> Path:
    """The folder of a bundle to start from: the one that was named, or one beside the package.

    Raises:
        ValueError: if there is none.
    """
    folder = Path(template).expanduser() if template else Path(hidiff_monai.__file__).parents[1] / "bundles" / name
    if not (folder / "configs" / "train.json").is_file():
        raise ValueError(
            f"{folder} holds no configs/train.json; expected the bundle to start from: "
            f"name one with --template, for example <repository>/bundles/{name}"
        )
    return folder.resolve()


def read_template(folder: Path) -> dict[str, Config]:
    """All configurations of a bundle, by name."""
    return {name: Config(folder / "configs" / f"{name}.json") for name in CONFIGS}


def _format(value: Any, depth: int) -> str:
    pad, end = "    " * (depth + 1), "    " * depth
    line = json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict) and value:
        named = [(json.dumps(key, ensure_ascii=False), _format(item, depth + 1)) for key, item in value.items()]
        rows = [f"{pad}{key}: {text}" for key, text in named]
        return "{\n" + ",\n".join(rows) + f"\n{end}}}"
    if isinstance(value, list) and value and not _fits(value, line):
        return "[\n" + ",\n".join(pad + _format(item, depth + 1) for item in value) + f"\n{end}]"
    return line


def _fits(items: list[Any], line: str) -> bool:
    """Whether a list stands on one line: short, of plain values, no steps of a run."""
    is_plain = not any(isinstance(item, (dict, list)) or str(item).startswith(("$", "@")) for item in items)
    return is_plain and len(line) <= MAX_LINE
