"""What can be said of the Dockerfile without building it."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LINES = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").splitlines()


def arguments(instruction: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def test_everything_that_is_copied_is_there_and_reaches_the_build() -> None:
    copied = {source for line in arguments("COPY") if "--from" not in line for source in line.split()[:-1]}
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((REPOSITORY / name).exists() for name in copied)
    assert {"bundles/*/output*", "hidiff_monai/ops/_packed.so*"} <= set(ignored)


def test_it_installs_what_is_pinned_and_runs_as_nobody_special() -> None:
    text = "\n".join(LINES)
    assert len(re.findall(r"pip install -c constraints\.txt ", text)) == text.count("pip install")
    user, group = arguments("USER")[-1].split(":")
    assert int(user) > 0 and int(group) > 0
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", text, re.MULTILINE)
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))
    (python,) = re.findall(r"^ARG PYTHON=(.+)$", text, re.MULTILINE)
    assert f"Programming Language :: Python :: {python}" in project
    assert arguments("CMD")[-1] == '["hidiff", "env"]'
