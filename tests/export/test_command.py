"""``hidiff export``: every artefact runs where the package is not, says what it is, and gives the network's numbers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import load_net_with_metadata

from hidiff_monai import ops
from hidiff_monai.cli import main
from hidiff_monai.export import runner
from hidiff_monai.export.agreement import measure_agreement, run_artefact
from hidiff_monai.export.command import export_bundle
from hidiff_monai.export.formats import capture, require_onnx
from hidiff_monai.export.inputs import made_up_trial, real_trial
from hidiff_monai.prediction import load_model
from hidiff_monai.prediction.pack import load_network

Made = Callable[[str], dict[str, Any]]
NAMES = sorted(path.name for path in (Path(__file__).resolve().parents[2] / "bundles").iterdir() if path.is_dir())
is_packed_here = ops.status().instruction_set != "torch"
needs_operators = pytest.mark.skipif(not is_packed_here, reason="the packed operators are not compiled here")


def export(made: dict[str, Any], file: Path, packed: bool = False) -> dict[str, float]:
    """Exports, and reads the agreement of the image and of the batch of another size from what is printed."""
    if file.suffix == ".onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    given = {**made, "format": file.suffix[1:], "output": file, "packed": packed}
    lines = export_bundle(**given).splitlines()
    assert lines[0].startswith(f"{file}: {file.stat().st_size / 1e6:.3f} MB, any batch")
    assert "without hidiff_monai" in lines[1] and "made-up" not in lines[1]
    assert len(lines) == 4
    return {line.split(":")[0].strip(): float(line.split("|difference| ")[1].split()[0]) for line in lines[2:]}


def test_torchscript_has_metadata_and_takes_any_size(made: Made, tmp_path: Path) -> None:
    given, file = made("synapse"), tmp_path / "model.ts"
    found = export(given, file)
    assert list(found) == ["1 x 9 x 32 x 32", "2 x 9 x 8 x 12"] and max(found.values()) <= 1e-6
    loaded, metadata, others = load_net_with_metadata(str(file), more_extra_files=["inference.json"])
    assert metadata["name"] and metadata["export"]["output_channels"]["8"] == "stomach"
    assert metadata["export"]["input_normalisation"].endswith("Hounsfield units from -125 to 275 as 0 to 1")
    assert metadata["export"]["threshold"] is None and metadata["export"]["classes_exclude_each_other"]
    assert json.loads(others["inference.json"])["segmentor#channels"] == [4] * 3
    network = load_network(given["bundle"], given["checkpoint"], given["overrides"])
    image = torch.rand(3, 1, 21, 30)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image), rtol=0, atol=1e-6)


def test_onnx_has_metadata_and_dynamic_axes(made: Made, tmp_path: Path) -> None:
    found = export(made("drive"), tmp_path / "model.onnx")
    assert max(found.values()) <= 1e-4
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "model.onnx")
    (image,), (probability,) = session.get_inputs(), session.get_outputs()
    assert (image.name, probability.name) == ("image", "probability")
    assert image.shape[1] == 3 and all(isinstance(image.shape[axis], str) for axis in (0, 2, 3))
    described = json.loads(session.get_modelmeta().custom_metadata_map["metadata.json"])["export"]
    assert described["threshold"] == 0.5 and described["sizes"].endswith("multiples of 4 from 8")


@needs_operators
def test_the_packed_refiner_needs_its_operators_only(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "model.ts"
    assert max(export(made("kvasir_seg"), file, packed=True).values()) <= 1e-4
    with pytest.raises(ValueError, match="does not run in a process of its own .*hidiff_monai"):
        run_artefact(file, [torch.rand(1, 3, 8, 8)])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_format_of_every_bundle(made: Made, name: str, tmp_path: Path) -> None:
    given = made(name)
    for suffix, packed in ((".ts", False), (".ts", True), (".pt2", False), (".onnx", False)):
        if packed and not is_packed_here:
            continue
        found = export(given, tmp_path / f"model{suffix}", packed)
        assert max(found.values()) <= 1e-4


def test_a_wrong_artefact_is_found_out(made: Made, tmp_path: Path) -> None:
    given, file = made("kvasir_seg"), tmp_path / "model.ts"
    network = load_network(given["bundle"], given["checkpoint"], given["overrides"])
    trial = made_up_trial(network)
    torch.jit.save(torch.jit.script(network), file)
    torch.nn.init.constant_(network.segmentor.head.bias, 30.0)
    seen, other = measure_agreement(file, network, trial, 0.5)
    assert min(seen.max_difference, other.max_difference) > 0.1 and seen.close_share < 0.5 and seen.mask_share < 0.9


def test_what_the_network_sees_of_an_image(made: Made) -> None:
    given = made("drive")
    model = load_model(
        given["bundle"], given["image"], given["checkpoint"], "cpu", None, None, given["overrides"], True
    )
    trial = real_trial(model)
    assert trial.source == "picture"
    assert [tuple(batch.shape) for batch in trial.batches] == [(4, 3, 32, 32), (2, 3, 8, 12)]
    whole = model.preprocessing(dict(model.items[0]))["image"]
    assert torch.equal(trial.batches[0][0], whole.as_tensor()[:, :32, :32])
    assert torch.equal(trial.batches[1][0], trial.batches[0][0][:, :8, :12])


@pytest.mark.slow
def test_the_chain_is_unrolled_as_it_was_set(made: Made) -> None:
    given = made("kvasir_seg")
    number = [
        sum(
            "conv2d" in str(node.target)
            for node in capture(
                load_network(given["bundle"], given["checkpoint"], {**given["overrides"], "num_inference_steps": steps})
            ).graph.nodes
        )
        for steps in (1, 2)
    ]
    assert number[0] < number[1] < 2 * number[0]  # the segmentor runs once


def test_the_barrier_lets_nothing_of_the_package_through() -> None:
    with pytest.raises(ImportError):
        runner.Barrier().find_spec("hidiff_monai.networks")
    with pytest.raises(ImportError):
        runner.Barrier().find_spec("monai")
    assert runner.Barrier().find_spec("numpy") is None


@pytest.mark.skipif(os.name == "nt", reason="the interpreter's stand-in is a shell script")
def test_an_artefact_runs_where_packages_are_not_in_site_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with PYTHONPATH or a user's own packages, of which an isolated interpreter knows nothing."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    torch.jit.script(torch.nn.Sigmoid()).save(tmp_path / "model.ts")
    (found,) = run_artefact(tmp_path / "model.ts", [torch.zeros(1, 1, 2, 2)])
    assert (found == 0.5).all()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ValueError, match=r"onnxruntime not installed; .*pip install 'hidiff-monai\[export\]'"):
        require_onnx()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--format", "h5", "--output", "a.h5"], "--format h5; expected one of ['ts', 'onnx', 'pt2']"),
        (["--format", "onnx", "--output", "a.ts"], "expected a name that ends in .onnx"),
        (["--format", "pt2", "--output", "a.pt2", "--packed"], "only TorchScript knows the packed operators"),
        (["--format", "ts", "--output", "a.ts", "--network_def#sampler", "ddim"], "the sampler is ddim; expected hard"),
        (["--format", "ts", "--output", "a.ts", "--chanels", "3"], "no key 'chanels'"),
    ],
)
def test_mistakes_are_explained_and_write_nothing(
    extra: list[str],
    message: str,
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = made("kvasir_seg")
    monkeypatch.chdir(tmp_path)
    channels = [part for key in ("segmentor", "refiner") for part in (f"--{key}#channels", "[4,4,4]")]
    with pytest.raises(SystemExit) as end:
        main(["export", "--bundle", str(given["bundle"]), "--checkpoint", str(given["checkpoint"]), *channels, *extra])
    assert end.value.code == 1 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_verb_without_an_image(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = made("kvasir_seg")
    channels = [part for key in ("segmentor", "refiner") for part in (f"--{key}#channels", "[4,4,4]")]
    places = {"bundle": given["bundle"], "checkpoint": given["checkpoint"], "output": tmp_path / "model.ts"}
    options = [f"--{name}={place}" for name, place in places.items()]
    main(["export", *options, "--format", "ts", *channels])
    assert "made-up noise (give --image for a real one)" in capsys.readouterr().out
