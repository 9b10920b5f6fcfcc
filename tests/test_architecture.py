"""The shape of the code: imports run one way, files stay short, public names stay where configs look for them."""

import ast
import importlib
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "hidiff_monai"
ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))
ALL_CODE = SOURCES + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "bundles").rglob("*.py"))

# A ranked room imports from its own rank, lower ranks and leaves; a leaf only from leaves; the top from anywhere.
RANKS = [
    {"schedulers", "networks", "segmentors", "losses"},
    {"inferers"},
    {"engines", "handlers"},
    {"recipes"},
    {"prediction"},
]
LEAVES = {"data", "metrics", "io", "report", "ops"}
TOP = {
    "ablation",
    "ablation_verb",
    "benchmark",
    "bundle_runs",
    "cli",
    "compare_verb",
    "cross_validation",
    "demo",
    "environment",
    "export",
    "label",
}
TOP |= {"calibration", "data_verbs", "dial", "new_bundle", "prediction_verb", "reproduction", "sharing", "__main__"}
ROOMS = LEAVES | TOP | set.union(*RANKS)
MAX_LINES = 400

PUBLIC_NAMES = {
    "schedulers": ["BernoulliScheduler"],
    "networks": ["DiffusionRefiner", "HiDiff", "BinaryConv2d", "BinaryLinear"],
    "segmentors": ["SegmentorOutput", "UNetSegmentor", "SegmentorAdapter"],
    "losses": ["BernoulliDiffusionLoss", "DiscriminativeLoss"],
    "inferers": ["BernoulliDiffusionInferer"],
    "engines": ["AlternateCollaborativeTrainer"],
    "handlers": ["AlternateCollaborativeHandler"],
}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    """hidiff_monai/networks/hidiff.py -> networks; hidiff_monai/cli.py -> cli."""
    return path.relative_to(ROOT / PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth, by its absolute dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = [*path.relative_to(ROOT).parent.parts[: 1 - node.level or None], *base]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def rooms_used(path: Path) -> set[str]:
    """The rooms of this package that a file imports from, its own left out."""
    names = (name.split(".") for name in imports_of(path))
    return {parts[1] for parts in names if parts[0] == PACKAGE and len(parts) > 1} & ROOMS - {room_of(path)}


def rooms_allowed(room: str) -> set[str]:
    """The rooms that code in `room` may import from."""
    if room in TOP:
        return ROOMS
    allowed = set(LEAVES)
    for rank in RANKS if room not in LEAVES else []:
        allowed |= rank
        if room in rank:
            break
    return allowed


MODULES = [path for path in SOURCES if path != ROOT / PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in ROOMS, f"{short(path)} is in no known room: {sorted(ROOMS)}"
    wrong = rooms_used(path) - rooms_allowed(room)
    assert not wrong, f"{short(path)} imports from {sorted(wrong)}; {room} may only use {sorted(rooms_allowed(room))}"


def test_rooms_import_each_other_without_a_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        graph.setdefault(room_of(path), set()).update(rooms_used(path))
    TopologicalSorter(graph).prepare()  # CycleError names the rooms


def test_package_itself_imports_only_the_standard_library() -> None:
    roots = {name.split(".")[0] for name in imports_of(ROOT / PACKAGE / "__init__.py")}
    assert roots <= set(sys.stdlib_module_names), f"heavy imports in {PACKAGE}/__init__.py: {sorted(roots)}"


@pytest.mark.parametrize("path", ALL_CODE, ids=short)
def test_file_is_short_and_named_for_its_idea(path: Path) -> None:
    assert path.name != "utils.py", f"{short(path)}: name the file for the idea it holds"
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{short(path)} has {lines} lines; expected at most {MAX_LINES}: split it by idea"


@pytest.mark.parametrize("path", ALL_CODE, ids=short)
def test_torchvision_is_not_needed(path: Path) -> None:
    assert "torchvision" not in {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize(("room", "name"), [(room, name) for room, names in PUBLIC_NAMES.items() for name in names])
def test_public_name_is_re_exported(room: str, name: str) -> None:
    module = importlib.import_module(f"{PACKAGE}.{room}")
    assert hasattr(module, name), f"{PACKAGE}.{room}.{name} is public: configs and users rely on it"
    assert name in module.__all__


def test_relative_imports_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / PACKAGE / "networks" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text("from . import blocks\nfrom ..engines import run\nfrom .. import cli\nimport torch.nn\n")
    expected = ["networks.blocks", "engines.run", "cli"]
    assert list(imports_of(path)) == [*(f"{PACKAGE}.{name}" for name in expected), "torch.nn"]
    assert rooms_used(path) == {"engines", "cli"}
    assert rooms_used(path) - rooms_allowed("networks") == {"engines", "cli"}
