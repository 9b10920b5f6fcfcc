"""A cohort with broken cases through `hidiff check` and `hidiff predict`, killed in the middle and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.data import check_dataset

# predicts, and writes a line a case: its name and the resident memory in pages
SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from hidiff_monai.prediction import format_summary, run, run_prediction
arguments = json.loads(sys.argv[1])
original = run._try_case
def noted(model, item, *others):
    with open(sys.argv[2], "a") as file:
        file.write(item["id"] + " " + Path("/proc/self/statm").read_text().split()[1] + "\\n")
    return original(model, item, *others)
run._try_case = noted
manifest = run_prediction(**arguments)
print(format_summary(manifest, Path(arguments["output"])))
sys.exit(any(case["status"] == "failed" for case in manifest["cases"]))
"""
WAYS_TO_BREAK = ("empty", "cut", "text", "pages", "float with NaN")


def break_file(file: Path, way: str) -> None:
    """Replaces a good picture by something that is none."""
    whole = file.read_bytes()
    if way == "pages":
        page = Image.new("RGB", (40, 48))
        page.save(file, format="TIFF", save_all=True, append_images=[page])
    elif way == "float with NaN":
        Image.fromarray(np.full((48, 40), np.nan, np.float32)).save(file, format="TIFF")
    else:
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no picture at all"}[way])


def make_cohort(folder: Path, number: int, num_broken: int, write: Callable[..., None]) -> list[str]:
    """Pictures with labels and a datalist of them; returns the ids of the broken ones."""
    for case in range(number):
        write(folder / "images" / f"case{case:03d}.png", seed=case)
        (folder / "labels").mkdir(exist_ok=True)
        Image.fromarray(np.uint8(np.eye(40, 48) * 255)).save(folder / "labels" / f"case{case:03d}.png")
    broken = [f"case{case:03d}" for case in range(3, number, number // num_broken)][:num_broken]
    for position, name in enumerate(broken):
        break_file(folder / "images" / f"{name}.png", WAYS_TO_BREAK[position % len(WAYS_TO_BREAK)])
    ids = [f"case{case:03d}" for case in range(number)]
    cases = [{"id": name, "image": f"images/{name}.png", "label": f"labels/{name}.png"} for name in ids]
    datalist = {"name": "cohort", "channels": 3, "label_values": {"0": 0, "255": 1}, "label_names": ["x"]}
    (folder / "datalist.json").write_text(json.dumps({**datalist, "test": cases}))
    return broken


@pytest.mark.parametrize(
    ("number", "num_broken"), [(12, 3), pytest.param(200, 10, marks=pytest.mark.slow)], ids=["small", "200 cases"]
)
def test_a_cohort_is_checked_predicted_killed_and_finished(
    tmp_path: Path,
    bundle_arguments: Callable[[str], dict[str, Any]],
    write_photograph: Callable[..., None],
    number: int,
    num_broken: int,
) -> None:
    broken = make_cohort(tmp_path, number, num_broken, write_photograph)
    problems = check_dataset(tmp_path / "datalist.json", tmp_path, progress=False)
    assert sorted({problem.case_id for problem in problems}) == broken
    assert all(problem.mend for problem in problems)

    places = {"source": tmp_path / "images", "output": tmp_path / "out"}
    arguments = json.dumps({**bundle_arguments("kvasir_seg"), **places}, default=str)
    log = tmp_path / "log.txt"
    command = [sys.executable, "-c", SCRIPT, arguments, str(log)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "out" / "cases"
    deadline = time.monotonic() + 300
    while len([*records.glob("*.json")]) < number // 2:
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    states = {file.stem: json.loads(file.read_text())["status"] for file in records.glob("*.json")}
    done_before = {name for name, status in states.items() if status == "done"}

    second = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert second.returncode == 1, second.stderr
    assert f"{number - num_broken} of {number} case(s) predicted" in second.stdout
    assert all(f"  {name}: {name}.png: " in second.stdout for name in broken)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert sorted(case["id"] for case in manifest["cases"] if case["status"] == "failed") == broken
    begun = [line.split()[0] for line in log.read_text().splitlines()]
    twice = {name for name in begun if begun.count(name) > 1} - set(broken)
    assert not twice & done_before and len(twice) <= 1  # the one that was being predicted
    masks = {file.name.removesuffix("_mask.png") for file in (tmp_path / "out").glob("*_mask.png")}
    assert len(masks) == number - num_broken and not masks & set(broken)

    pages = [int(line.split()[1]) for line in log.read_text().splitlines()][-number // 2 :]
    third = len(pages) // 3
    growth_mib = (np.median(pages[-third:]) - np.median(pages[third : 2 * third])) * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert growth_mib < 25, f"{growth_mib:.1f} MiB more"
