"""How the operators are registered: one schema, every way to run them equal, torch's own tools at ease with them."""

import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hidiff_monai import ops
from hidiff_monai.ops import build, library

Make = Callable[..., dict[str, Any]]
OPERATORS = list(library.OPERATORS)
SHOW = "from hidiff_monai import ops; print(ops.status().instruction_set, '|', ops.status().reason)"
needs_library = pytest.mark.skipif(ops.status().library is None, reason=ops.status().reason)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def call(operator: str, arguments: dict[str, Any]) -> list[torch.Tensor]:
    """Runs the operator on a copy of the arguments, and returns them all, results and what may not change alike."""
    copies = [value.clone() if isinstance(value, torch.Tensor) else value for value in arguments.values()]
    getattr(torch.ops.hidiff_monai, operator)(*copies)
    return [value for value in copies if isinstance(value, torch.Tensor)]


def test_schemas_are_those_of_both_sides() -> None:
    schemas = library.read_schemas()
    assert [schema.split("(")[0] for schema in schemas] == OPERATORS
    for schema, name in zip(schemas, OPERATORS, strict=True):
        assert str(getattr(torch.ops.hidiff_monai, name).default._schema) == f"hidiff_monai::{schema}"


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        *((operator, {"is_half": half}) for operator in OPERATORS for half in (False, True)),
        *(
            (operator, {"batch": 1, "height": 1, "width": 1, "channels": 1})
            for operator in ("pack_signs", "head_conv2d")
        ),
        ("binary_conv2d", {"kernel_size": 1, "shortcut_channels": 48, "outputs": 24}),
        ("binary_conv2d", {"stride": 2, "shortcut_size": "double", "shortcut_channels": 12}),
        ("binary_conv2d", {"upsample": True, "shortcut_size": "half", "is_half": True}),
        ("binary_conv2d", {"extra_channels": 0, "shortcut_channels": 0, "outputs": 1, "height": 1, "width": 1}),
        ("stem_conv2d", {"batch": 6, "share_batch": 3, "targets": 1, "channels": 33}),
    ],
)
def test_every_way_writes_the_same(operator: str, options: dict[str, Any], make_arguments: Make) -> None:
    arguments = make_arguments(operator, **options)
    with ops.use_instruction_set("torch"):
        expected = call(operator, arguments)
    for name in ops.status().available:
        with ops.use_instruction_set(name):
            for got, right in zip(call(operator, arguments), expected, strict=True):
                assert torch.equal(got, right), name


def random_options(operator: str, rng: random.Random) -> dict[str, Any]:
    """Sizes around whole words and whole vectors, single rows and columns, every kind of convolution and shortcut."""
    sizes = {name: rng.choice([1, 2, 3, 5, 8, 13, 17]) for name in ("height", "width")}
    options = {**sizes, "channels": rng.choice([1, 15, 31, 32, 33, 64, 80, 130]), "is_half": rng.random() < 0.5}
    if operator in {"pack_signs", "head_conv2d"}:
        return {**options, "batch": rng.randint(1, 3)}
    divisor, factor = rng.randint(1, 2), rng.randint(1, 2)
    options["batch"] = divisor * factor
    if operator == "stem_conv2d":
        return {**options, "share_batch": divisor, "targets": rng.randint(1, 3)}
    kernel_size, stride, upsample = rng.choice([(3, 1, False), (3, 2, False), (3, 1, True), (1, 1, False)])
    zoom = 2 if upsample else 1
    is_even = all(((size * zoom - 1) // stride + 1) % 2 == 0 for size in sizes.values())
    outputs = rng.choice([1, 4, 16, 17, 34, 48, 100])
    ratios = [ratio for ratio in (2, 4) if outputs % ratio == 0]
    return {
        **options,
        **{"kernel_size": kernel_size, "stride": stride, "upsample": upsample, "outputs": outputs},
        **{"extra_channels": rng.choice([0, 3, 40]), "extra_batch": divisor},
        "shortcut_size": rng.choice(["same", "double", *(["half"] if is_even else [])]),
        "shortcut_channels": rng.choice([0, outputs, 2 * outputs, 3 * outputs, *(outputs // r for r in ratios)]),
    }


def leave_out(arguments: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Without some of what a convolution can do without; one result stays."""
    results = ["out", "packed", "skip_packed"]
    results.remove(rng.choice(results))
    names = [name for name in ("slope", "zeta", *results) if rng.random() < 0.3]
    return {**arguments, **dict.fromkeys(names)}


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_way_writes_the_same_whatever_the_shape(operator: str, make_arguments: Make) -> None:
    rng = random.Random(0)
    for number in range(150 if operator == "binary_conv2d" else 25):
        options = random_options(operator, rng)
        arguments = make_arguments(operator, **options)
        if operator == "binary_conv2d":
            arguments = leave_out(arguments, rng)
        with ops.use_instruction_set("torch"):
            expected = call(operator, arguments)
        for name in ops.status().available:
            with ops.use_instruction_set(name):
                for got, right in zip(call(operator, arguments), expected, strict=True):
                    assert torch.equal(got, right), f"{number}: {name}, {options}"


def test_result_in_place_of_the_shortcut(make_arguments: Make, instruction_set: str) -> None:
    arguments = make_arguments("binary_conv2d")
    torch.ops.hidiff_monai.binary_conv2d(*arguments.values())
    expected, shared = arguments["out"], arguments["shortcut"].clone()
    torch.ops.hidiff_monai.binary_conv2d(*{**arguments, "shortcut": shared, "out": shared}.values())
    assert torch.equal(shared, expected)


def test_active_instruction_set_is_put_back(instruction_set: str) -> None:
    assert ops.status().instruction_set == instruction_set
    for name in ops.status().available:
        with pytest.raises(KeyError), ops.use_instruction_set(name):
            assert ops.status().instruction_set == name
            raise KeyError
        assert ops.status().instruction_set == instruction_set
    with pytest.raises(ValueError, match=r"'sse'; expected one of \("), ops.use_instruction_set("sse"):
        pass


@pytest.mark.parametrize("name", ops.status().available)
def test_environment_names_the_instruction_set(name: str) -> None:
    assert run_python(SHOW, HIDIFF_INSTRUCTION_SET=name).stdout.strip() == f"{name} | HIDIFF_INSTRUCTION_SET={name}"


def test_unknown_name_in_the_environment() -> None:
    result = run_python(SHOW, HIDIFF_INSTRUCTION_SET="mmx")
    assert "ValueError: HIDIFF_INSTRUCTION_SET is 'mmx'; expected one of" in result.stderr


def test_library_that_is_missing_or_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "_packed.so")
    assert "was not built" in library._load_native(None)[1]
    build.LIBRARY.write_text("of sources long gone")
    assert "is of other sources" in library._load_native(None)[1]  # and its code is not run to find out
    build.LIBRARY.write_text(f"no library, but {build.source_digest()}")
    native, reason = library._load_native(None)
    assert native is None and "_packed.so does not load: " in reason


@needs_library
def test_cpu_without_any_of_the_instruction_sets(make_arguments: Make) -> None:
    registration = object.__new__(library._Registration)
    registration.requested, registration.native = None, library._registration.native
    registration.available, registration._override = ("torch",), None
    registration._start()
    try:
        assert registration.active == "torch"
        with pytest.raises(ValueError, match="^values is float64"):  # plain PyTorch's message
            call("pack_signs", {**make_arguments("pack_signs"), "values": torch.zeros(3, 4, 5, 40).double()})
    finally:
        registration._override._destroy()


@needs_library
def test_status_knows_sources_from_what_was_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in build.CSRC.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(build, "CSRC", tmp_path)
    before = build.source_digest()
    (tmp_path / "kernels.h").write_text("// changed\n")
    assert build.source_digest() != before
    assert ops.status().is_outdated


class Layer(nn.Module):
    """Binarizes, then adds a convolution of the signs to its input, in place."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        for name in ("weight", "base", "scale", "bias", "slope"):
            self.register_buffer(name, arguments[name])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        shape = [values.shape[0], values.shape[1] + 2, values.shape[2] + 2, (values.shape[3] + 31) // 32]
        packed = torch.zeros(shape, dtype=torch.int32)
        torch.ops.hidiff_monai.pack_signs(values, self.bias, packed)
        out = values.clone()
        torch.ops.hidiff_monai.binary_conv2d(
            packed, self.weight, None, None, self.base, 3, 1, False, self.scale, self.bias, out, self.slope, None, out,
            None, None, None, None
        )  # fmt: skip
        return out


@pytest.fixture
def layer(make_arguments: Make) -> tuple[Layer, torch.Tensor, torch.Tensor]:
    """A module, its input and its result."""
    layer = Layer(make_arguments("binary_conv2d", channels=24, extra_channels=0)).eval()
    values = torch.randn(2, 4, 5, 24)
    return layer, values, layer(values)


def test_scripted_frozen_and_saved(layer: tuple[Layer, torch.Tensor, torch.Tensor], instruction_set: str) -> None:
    module, values, expected = layer
    scripted = torch.jit.script(module)
    frozen = torch.jit.freeze(scripted)
    buffer = io.BytesIO()
    torch.jit.save(frozen, buffer)
    buffer.seek(0)
    for candidate in (scripted, frozen, torch.jit.load(buffer)):
        for _ in range(3):  # the later runs are optimized
            assert torch.equal(candidate(values), expected)


def test_exported(layer: tuple[Layer, torch.Tensor, torch.Tensor], instruction_set: str) -> None:
    module, values, expected = layer
    dynamic = ({0: torch.export.Dim("batch", max=8), 1: torch.export.Dim("height", max=64)},)
    exported = torch.export.export(module, (values,), dynamic_shapes=dynamic)
    assert torch.equal(exported.module()(values), expected)
    assert torch.equal(exported.run_decompositions().module()(values), expected)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(layer: tuple[Layer, torch.Tensor, torch.Tensor], backend: str, instruction_set: str) -> None:
    module, values, expected = layer
    torch.compiler.reset()
    assert torch.equal(torch.compile(module, backend=backend, fullgraph=True)(values), expected)


@pytest.mark.parametrize("operator", OPERATORS)
def test_torch_finds_nothing_amiss(operator: str, make_arguments: Make, instruction_set: str) -> None:
    overload = getattr(torch.ops.hidiff_monai, operator).default
    torch.library.opcheck(overload, tuple(make_arguments(operator).values()))
