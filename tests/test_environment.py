"""What `hidiff env` says about this machine."""

import json
import platform
import time

import pytest
import torch

from hidiff_monai import environment, ops
from hidiff_monai.cli import main


def test_env_prints_a_line_for_each_value(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.perf_counter()
    main(["env"])
    assert time.perf_counter() - start < 10
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["python", platform.python_version()] in lines
    assert ["instruction", "set", ops.status().instruction_set] in lines
    assert ["threads", "of", "torch", str(torch.get_num_threads())] in lines


def test_env_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["env", "--as_json"])
    sections = json.loads(capsys.readouterr().out)
    status = ops.status()
    assert sections["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert sections["packed operators"]["because"] == status.reason
    assert sections["packed operators"]["available"] == list(status.available)
    assert sections["processor"]["cores"] >= sections["processor"]["cores for this process"] >= 1


def test_flags_of_the_processor_agree_with_the_instruction_set() -> None:
    flags = environment.describe_environment()["processor"]["instruction sets"]
    if "avx512" in ops.status().available:
        assert flags == list(environment.FLAGS)
    if "avx2" in ops.status().available:
        assert {"avx2", "fma", "f16c"} <= set(flags)


def test_missing_package_and_compiler_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "OPTIONAL_PACKAGES", {"no-such-package": "for nothing"})
    monkeypatch.setenv("CXX", "no-such-compiler")
    sections = environment.describe_environment()
    assert sections["optional packages"] == {"no-such-package": "not installed (for nothing)"}
    assert sections["packed operators"]["compiler"].startswith("none: ")
    assert "not installed (for nothing)" in environment.format_environment(sections)
