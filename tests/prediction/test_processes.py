"""A cohort predicted by two processes of torchrun: as by one, and again after one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.prediction import processes as processes_module
from hidiff_monai.prediction import run as run_module
from hidiff_monai.prediction import run_prediction
from hidiff_monai.prediction.processes import Processes, describe_missing

REPOSITORY = Path(__file__).parents[2]
NAMES = ["a", "b", "c", "d", "e"]
TIMES = ("seconds", "inference_ms", "created")


def predict_in_two(
    arguments: dict[str, Any], source: Path, output: Path, *program: str
) -> subprocess.CompletedProcess[str]:
    """`hidiff predict` through torchrun, with the arguments of `run_prediction`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *program, "predict"]
    settings = {"input": source, "output": output, **{key: arguments[key] for key in ("bundle", "checkpoint")}}
    settings |= {"device": "cpu", **arguments["overrides"]}
    command += [f"--{key}={value}" for key, value in settings.items()]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=source.parent, env=environment, text=True, capture_output=True, timeout=300)


def read_maps(folder: Path) -> dict[str, np.ndarray]:
    maps = {}
    for file in sorted([*folder.glob("*.png"), *folder.glob("pictures/*.png")]):
        with Image.open(file) as image:
            maps[str(file.relative_to(folder))] = np.asarray(image)
    return maps


def cases_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in case.items() if key not in TIMES} for case in manifest["cases"]]


# the second process is killed in its second case, when the first one has ended its own first and stays in its second
KILLER = """
import os, signal, sys, time
from pathlib import Path
from hidiff_monai import cli
from hidiff_monai.prediction import run

original, counts = run.predict_case, []
records = Path(next(word.removeprefix("--output=") for word in sys.argv if word.startswith("--output="))) / "cases"

def predict_case(model, image):
    counts.append(0)
    if os.environ["RANK"] == "1" and len(counts) == 2:
        end = time.monotonic() + 240
        while len(list(records.glob("*.json"))) < 4 and time.monotonic() < end:  # two done, two begun
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(model, image)
    time.sleep(float(os.environ["RANK"] == "0") * 60 if len(counts) == 2 else 0)
    return result

run.predict_case = predict_case
cli.main()
"""


def require_same(output: Path, manifest: dict[str, Any], alone: Path, expected: dict[str, Any]) -> None:
    assert cases_of(manifest) == cases_of(expected)
    maps, found = read_maps(alone), read_maps(output)
    assert list(found) == list(maps) and len(maps) == 3 * len(NAMES)
    assert all(np.array_equal(found[name], maps[name]) for name in maps)


def test_a_killed_process_ends_a_run_that_one_process_completes(
    tmp_path: Path, bundle_arguments: Callable[[str], dict[str, Any]], write_photograph: Callable[..., None]
) -> None:
    for seed, name in enumerate(NAMES):
        write_photograph(tmp_path / "in" / f"{name}.png", seed=seed)
    arguments = bundle_arguments("kvasir_seg")
    (tmp_path / "killer.py").write_text(KILLER)
    output = tmp_path / "out"
    killed = predict_in_two(arguments, tmp_path / "in", output, "-m", "killer")
    assert killed.returncode != 0
    assert "Signal 9 (SIGKILL)" in killed.stderr
    manifest = json.loads((output / "manifest.json").read_text())
    there = [case["id"] for case in manifest["cases"]]
    assert manifest["planned"] == 5 and 2 <= len(there) < 5
    assert f"{5 - len(there)} of 5 case(s) are missing: " in killed.stderr
    assert "run the same line again, with any number of processes" in killed.stderr

    manifest = run_prediction(source=tmp_path / "in", output=output, **arguments)
    assert manifest["done_before"] == len(there)
    expected = run_prediction(source=tmp_path / "in", output=tmp_path / "alone", **arguments)
    require_same(output, manifest, tmp_path / "alone", expected)


@pytest.mark.slow
def test_two_processes_predict_as_one(
    tmp_path: Path, bundle_arguments: Callable[[str], dict[str, Any]], write_photograph: Callable[..., None]
) -> None:
    for seed, name in enumerate(NAMES):
        write_photograph(tmp_path / "in" / f"{name}.png", seed=seed)
    arguments, output = bundle_arguments("kvasir_seg"), tmp_path / "out"
    expected = run_prediction(source=tmp_path / "in", output=tmp_path / "alone", **arguments)
    programs = (("--no-python", str(Path(sys.executable).with_name("hidiff"))), ("-m", "hidiff_monai"))
    for program, done_before in zip(programs, ("", " (5 of them before)"), strict=True):
        done = predict_in_two(arguments, tmp_path / "in", output, *program)
        assert done.returncode == 0, done.stderr[-3000:]
        assert f"5 of 5 case(s) predicted in {output}{done_before}" in done.stdout
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["processes"] == 2
    require_same(output, manifest, tmp_path / "alone", expected)


class SecondIsLost(Processes):
    """The first of two processes, of which the other took case 1 and was lost."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 2

    def wait_for_first(self) -> None:
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL, "the others would begin before this one can stop"
        super().wait_for_first()

    def take(self, number: int) -> Iterator[int]:
        return (index for index in super().take(number) if index != 1)


def test_the_first_process_names_what_a_lost_one_left(
    tmp_path: Path,
    bundle_arguments: Callable[[str], dict[str, Any]],
    write_photograph: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed, name in enumerate(NAMES[:3]):
        write_photograph(tmp_path / "in" / f"{name}.png", seed=seed)
    run = {"source": tmp_path / "in", "output": tmp_path / "out", **bundle_arguments("kvasir_seg")}
    monkeypatch.setattr(run_module, "Processes", SecondIsLost)
    with pytest.raises(ValueError, match=r"no case has ended for 0.1 s.*; 1 of 3 case\(s\) are missing: b: run"):
        run_prediction(timeout_s=0.1, **run)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [case["id"] for case in manifest["cases"]] == ["a", "c"] and manifest["planned"] == 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.undo()
    assert run_prediction(**run)["done_before"] == 2


def test_nobody_begins_before_the_first_process() -> None:
    first, second = Processes(), Processes()
    second.rank, second.store = 1, first.store
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.wait_for_first)
        assert not wait([waiting], timeout=3 * processes_module.POLL_S).done
        first.wait_for_first()
        waiting.result(timeout=60)


def test_processes_take_each_case_once_and_every_end_is_told() -> None:
    first, second = Processes(), Processes()
    second.store, second.rank = first.store, 1
    first.number = second.number = 2
    taken = {first: first.take(5), second: second.take(5)}
    order = [next(taken[process]) for process in (first, second, second, first, second)]
    assert order == [0, 1, 2, 3, 4] and not [*taken[first], *taken[second]]
    for index in order:
        second.end(index, is_kept=index == 3)
    first.wait(5, timeout_s=0)
    assert first.ended(5) == {0: False, 1: False, 2: False, 3: True, 4: False}


def test_news_of_any_case_prolong_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    processes, clock = Processes(), [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += 6  # a case ends every 6 s, up to the third
        if clock[0] <= 18:
            processes.end(int(clock[0] / 6) - 1, is_kept=False)

    monkeypatch.setattr(processes_module.time, "sleep", sleep)
    monkeypatch.setattr(processes_module.time, "monotonic", lambda: clock[0])
    processes.store.add("left", 1)
    processes.wait(4, timeout_s=10)
    assert processes.ended(4) == dict.fromkeys(range(3), False)
    assert clock[0] == 30  # two more rounds without news


def test_every_process_of_a_machine_gets_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert processes.device(None) is None
    processes.number = 4
    assert [processes.device(name) for name in (None, "cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:1", "cuda:0", "cpu"]


def test_few_of_many_missing_cases_are_listed() -> None:
    sentence = describe_missing([f"c{number}" for number in range(12)], 40)
    assert sentence.startswith("12 of 40 case(s) are missing: c0, ") and "c9 and 2 more: run" in sentence


def test_what_the_first_process_makes_the_others_get() -> None:
    first, second = Processes(), Processes()
    second.rank, second.store = 1, first.store
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.share, "budget", lambda: pytest.fail("made twice"))
        assert first.share("budget", lambda: "made once") == "made once"
        assert waiting.result(timeout=60) == "made once"
