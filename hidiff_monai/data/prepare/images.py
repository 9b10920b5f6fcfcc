"""What all sets of 2-D images share: nothing is copied, every file is checked, then the datalist takes its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hidiff_monai.io import write_atomically

from ..datalist import absolute_paths, require_folder
from ..leakage import SECTIONS
from ..validate import Problem, check_dataset
from .problems import require_none, require_own_folder
from .similar import find_similar
from .splits import deal_folds

Case = dict[str, str]
MAX_NAMED = 5


def write_image_datalist(head: dict[str, Any], sections: dict[str, list[Case]], source: Path, output: Path) -> Path:
    """Checks every file and writes `output/datalist.json`, with paths relative to the source.

    Args:
        head: "name", "channels" and whatever else stands above the cases; its "note" is followed by what is known of
            look-alikes in two sections.
        sections: the cases of "training", "validation" and "test", with paths relative to the source. Training and
            validation are dealt into the folds of a cross-validation, by patients or video sequences.
        source: the folder with the images.
        output: the folder of the datalist.

    Returns:
        The datalist.

    Raises:
        ValueError: that lists every problem of every file, or if the output holds another data set's datalist; an
            earlier datalist is then left as it was.
    """
    path = output / "datalist.json"
    require_own_folder(path, head["name"])
    root = require_folder(source, "source")
    sections = {name: sorted(sections[name], key=_by_number) for name in SECTIONS}
    dealt = [case for name in SECTIONS[:2] for case in sections[name]]
    units = {case["id"]: case.get("patient") or case.get("sequence") or case["id"] for case in dealt}
    note = " ".join([*filter(None, [head.get("note")]), _describe_look_alikes(sections, root)])
    with write_atomically(path) as temporary:
        text = datalist_text({**head, "note": note, **sections, "folds": deal_folds(units)})
        temporary.write_text(text, encoding="utf-8", newline="\n")
        require_none([*check_dataset(temporary, root), *_find_copies(sections, root)], output)
    return path


def datalist_text(datalist: dict[str, Any]) -> str:
    """The datalist as JSON that people can read: a case, or a fold, a line."""
    return "{\n" + ",\n".join(f"  {_text(key)}: {_lines(value)}" for key, value in datalist.items()) + "\n}\n"


def paired_stems(images: Path, labels: Path, suffix: str) -> list[str]:
    """Names without suffix of all files in two folders, sorted, also of those that only one of them holds."""
    files = [file for folder in (images, labels) for file in folder.glob(f"*{suffix}")]
    return sorted({file.stem for file in files if not file.name.startswith(".")})


def _lines(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {_text(case)}" for case in value) + "\n  ]"
    if isinstance(value, dict) and any(isinstance(item, list) for item in value.values()):
        return "{\n" + ",\n".join(f"    {_text(key)}: {_text(item)}" for key, item in value.items()) + "\n  }"
    return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _by_number(case: Case) -> tuple[int, str]:
    """1, 2, 10 rather than 1, 10, 2."""
    return len(case["id"]), case["id"]


def _describe_look_alikes(sections: dict[str, list[Case]], root: Path) -> str:
    """How many pairs of images in two sections show the same sight, and the first of them."""
    cases = [(name, case) for name in SECTIONS for case in sections[name]]
    similar = find_similar([root / case["image"] for _, case in cases])
    pairs = [f"{cases[i][1]['id']} = {cases[j][1]['id']}" for i, j in similar if cases[i][0] != cases[j][0]]
    if not pairs:
        return "No image has a look-alike in another section."
    number = "1 pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
    more = " and so on" if len(pairs) > MAX_NAMED else ""
    return f"Images that show the same sight are in two sections, {number}: {', '.join(pairs[:MAX_NAMED])}{more}."


def _find_copies(sections: dict[str, list[Case]], root: Path) -> list[Problem]:
    """Images with the very same bytes under two names, in whichever sections."""
    seen: dict[str, str] = {}
    problems = []
    cases = [(name, absolute_paths(case, root)) for name in SECTIONS for case in sections[name]]
    for name, case in tqdm(cases, desc="Comparing images", unit="image"):
        file = Path(case["image"])
        if not file.is_file():
            continue  # the check has said so
        place = f"{file} ({name})"
        first = seen.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), place)
        if first != place:
            found = f"in '{name}', the same image as {first}"
            problems.append(Problem(case["id"], "image", str(file), found, "every image once", "remove one of the two"))
    return problems
