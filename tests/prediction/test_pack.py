"""`hidiff pack`: from a bundle to a file that gives the same masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hidiff_monai.cli import main
from hidiff_monai.networks.packed_file import hash_tensors, read_packed, read_source
from hidiff_monai.prediction.pack import load_network, pack_bundle

Arguments = Callable[[str], dict[str, Any]]


@pytest.mark.parametrize("name", ["kvasir_seg", "acdc"])
@torch.no_grad()
def test_the_file_stands_in_the_network(name: str, bundle_arguments: Arguments, tmp_path: Path) -> None:
    arguments = bundle_arguments(name)
    bundle, checkpoint, overrides = (arguments[key] for key in ("bundle", "checkpoint", "overrides"))
    file = tmp_path / "refiner.safetensors"
    shown = pack_bundle(bundle, file, checkpoint, "float32", (64, 32), overrides)
    assert f"{file.stat().st_size / 1e6:.3f} MB" in shown and "per step at 64 x 32: " in shown
    assert "the real-valued twin: " in shown
    network = load_network(bundle, checkpoint, overrides)
    compiled = network.compile_inference(torch.float32)
    assert read_source(file) == hash_tensors(network.refiner.state_dict())
    image = torch.rand(2, network.refiner.image_channels, 40, 33)
    expected = compiled(image)
    network.refiner = read_packed(file)  # type: ignore[assignment]
    assert torch.equal(network(image), expected)


def test_the_verb(bundle_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = bundle_arguments("kvasir_seg")
    file = tmp_path / "refiner.safetensors"
    options = [
        "--bundle",
        str(arguments["bundle"]),
        "--checkpoint",
        str(arguments["checkpoint"]),
        "--output",
        str(file),
    ]
    overrides = ["--segmentor#channels", "[4,4,4,4,4,4]", "--refiner#channels", "[4,4,4,4,4,4]"]
    main(["pack", *options, *overrides])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith(f"{file}: ") and "256 x 256" in lines[1]
    assert read_packed(file).channels == [4] * 6
    main(["pack", *options, *overrides, "--image_size", "64"])
    assert "64 x 64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--storage", "int8"], "--storage int8; expected one of"),
        (["--refiner#binarized", "False"], "the refiner is real-valued"),
        (["--checkpoint", "nowhere.pt"], "nowhere.pt: there is no such checkpoint"),
        (["--no_such_key", "1"], "no_such_key"),
        (["--image_size", "[64,64,64]"], "--image_size is [64, 64, 64]; expected height and width"),
    ],
)
def test_mistakes_are_explained(
    extra: list[str], message: str, bundle_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = bundle_arguments("kvasir_seg")
    channels = ["--segmentor#channels", "[4,4,4,4,4,4]", "--refiner#channels", "[4,4,4,4,4,4]"]
    checkpoint = [] if "--checkpoint" in extra else ["--checkpoint", str(arguments["checkpoint"])]
    if "--refiner#binarized" in extra:  # weights that fit
        network = load_network(arguments["bundle"], arguments["checkpoint"], arguments["overrides"])
        real = type(network.refiner)(
            3, 1, network.refiner.feature_channels, network.refiner.feature_strides, [4] * 6, binarized=False
        )
        network.refiner = real
        torch.save(network.state_dict(), tmp_path / "model.pt")
        checkpoint = ["--checkpoint", str(tmp_path / "model.pt")]
    output = tmp_path / "out" / "refiner.safetensors"
    with pytest.raises(SystemExit) as end:
        main(["pack", "--bundle", str(arguments["bundle"]), "--output", str(output), *checkpoint, *channels, *extra])
    assert end.value.code == 1 and message in capsys.readouterr().err and not output.exists()
