"""Whatever the operators are given, in every way to run them: an error that names it, nothing written, no leak."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from hidiff_monai.ops.library import OPERATORS, read_schemas, status, use_instruction_set

Make = Callable[..., dict[str, Any]]
SCHEMAS = {schema.split("(")[0]: schema for schema in read_schemas()}
TENSORS = [
    (operator, name)
    for operator, schema in SCHEMAS.items()
    for name in re.findall(r"Tensor\S* (\w+)", schema.split(" -> ")[0])
]
WRITTEN = {operator: re.findall(r"!\)\S* (\w+)", schema) for operator, schema in SCHEMAS.items()}
READ = [(operator, name) for operator, name in TENSORS if name not in WRITTEN[operator]]
COMPILED = [name for name in status().available if name != "torch"]  # plain PyTorch does not look for shared memory
MAPS = {"values", "share", "shortcut", "out"}  # float32 or float16


def call(operator: str, arguments: dict[str, Any]) -> None:
    getattr(torch.ops.hidiff_monai, operator)(*arguments.values())


def check_refused(operator: str, arguments: dict[str, Any], match: str) -> None:
    written = [arguments[name] for name in WRITTEN[operator] if isinstance(arguments[name], torch.Tensor)]
    before = [None if tensor.is_meta else tensor.clone() for tensor in written]
    with pytest.raises((RuntimeError, ValueError), match=match):
        call(operator, arguments)
    for tensor, copy in zip(written, before, strict=True):
        assert copy is None or torch.equal(tensor, copy), "an operator wrote although it refused its arguments"


def wrong_types(name: str, tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    right = {torch.float32, torch.float16} if tensor.is_floating_point() and name in MAPS else {tensor.dtype}
    every = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8)
    yield from (tensor.to(dtype) for dtype in (*every, torch.bool, torch.complex64) if dtype not in right)


def wrong_shapes(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    yield tensor.unsqueeze(0)
    yield tensor.flatten() if tensor.dim() > 1 else tensor[0]
    yield torch.zeros((), dtype=tensor.dtype)
    for axis, size in enumerate(tensor.shape):
        for other in (0, size + 1, size + 64):
            yield tensor.new_zeros([*tensor.shape[:axis], other, *tensor.shape[axis + 1 :]])


def wrong_strides(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    yield torch.stack([tensor, tensor], dim=-1)[..., 0]
    yield tensor.new_zeros([1]).expand(tensor.shape)
    if tensor.dim() > 1:
        yield tensor.transpose(0, -1).contiguous().transpose(0, -1)


@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_wrong_type_is_refused(operator: str, name: str, make_arguments: Make, instruction_set: str) -> None:
    arguments = make_arguments(operator)
    for wrong in wrong_types(name, arguments[name]):
        check_refused(operator, {**arguments, name: wrong}, match=rf"\b{name} is \w.*; expected \w+(32|16)")


@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_wrong_shape_is_refused(operator: str, name: str, make_arguments: Make, instruction_set: str) -> None:
    arguments = make_arguments(operator)
    for wrong in wrong_shapes(arguments[name]):
        check_refused(operator, {**arguments, name: wrong}, match=r"\w+ .*(shape|holds|is) .*; expected .*\d|\w")


@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_scattered_memory_is_refused(operator: str, name: str, make_arguments: Make, instruction_set: str) -> None:
    arguments = make_arguments(operator)
    for wrong in wrong_strides(arguments[name]):
        if not wrong.is_contiguous():
            check_refused(operator, {**arguments, name: wrong}, match=rf"\b{name} .*not contiguous; expected")


@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_another_device_is_refused(operator: str, name: str, make_arguments: Make, instruction_set: str) -> None:
    arguments = make_arguments(operator)
    check_refused(operator, {**arguments, name: arguments[name].to("meta")}, match=rf"\b{name} is on .*; expected one")


@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_no_dense_tensor_at_all(operator: str, name: str, make_arguments: Make, instruction_set: str) -> None:
    arguments = make_arguments(operator)
    is_optional = f"? {name}" in SCHEMAS[operator]
    for wrong in (1, "text", [1.0], torch.zeros(2).to_sparse(), *([] if is_optional else [None])):
        with pytest.raises((RuntimeError, ValueError, AttributeError, TypeError)):
            call(operator, {**arguments, name: wrong})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        *(({"kernel_size": size}, f"kernel_size is {size}.*; expected 1") for size in (-1, 0, 2, 5, 2**40)),
        *(({"stride": stride}, f"stride .*{stride}; expected") for stride in (-1, 0, 3, 2**40)),
        ({"extra": None}, "extra.*; expected both"),
        ({"extra_weight": None}, "extra_weight.*; expected both"),
        ({"threshold": None}, r"\bthreshold.*; expected"),
        ({"skip_threshold": None}, "skip_threshold.*; expected"),
        ({"out": None, "packed": None, "skip_packed": None}, "out, packed and skip_packed.*; expected"),
        ({"upsample": True, "stride": 2}, "upsample.*; expected"),
    ],
)
def test_options_that_do_not_go_together(
    wrong: dict[str, Any], match: str, make_arguments: Make, instruction_set: str
) -> None:
    check_refused("binary_conv2d", {**make_arguments("binary_conv2d"), **wrong}, match)


@pytest.mark.parametrize("options", [{"kernel_size": 1, "stride": 2}, {"kernel_size": 1, "upsample": True}])
def test_a_linear_layer_neither_strides_nor_upsamples(
    options: dict[str, Any], make_arguments: Make, instruction_set: str
) -> None:
    check_refused("binary_conv2d", make_arguments("binary_conv2d", **options), "(stride|upsample).*; expected")


@pytest.mark.parametrize(
    "shape", [(3, 4, 5, 36), (3, 8, 5, 24), (3, 2, 5, 24), (3, 8, 11, 24), (1, 4, 5, 24), (3, 1, 1, 24)]
)
def test_a_shortcut_that_does_not_fit(shape: tuple[int, ...], make_arguments: Make, instruction_set: str) -> None:
    arguments = {**make_arguments("binary_conv2d"), "shortcut": torch.zeros(shape)}
    check_refused("binary_conv2d", arguments, "shortcut .*; expected")


@pytest.mark.parametrize(("operator", "name"), READ)
def test_results_have_memory_of_their_own(operator: str, name: str, make_arguments: Make) -> None:
    for written in WRITTEN[operator]:
        arguments = make_arguments(operator, **({"shortcut_channels": 48} if operator == "binary_conv2d" else {}))
        first, second = arguments[written], arguments[name]
        memory = torch.zeros(first.nbytes + second.nbytes, dtype=torch.uint8)
        parts = memory[: first.nbytes], memory[first.nbytes - 4 : first.nbytes - 4 + second.nbytes]
        arguments[written] = parts[0].view(first.dtype).reshape(first.shape)
        arguments[name] = parts[1].view(second.dtype).reshape(second.shape)  # one element is in both
        for instruction_set in COMPILED:
            with use_instruction_set(instruction_set):
                check_refused(operator, arguments, f"{written} shares memory with {name}; expected")


def test_results_do_not_share_memory_with_each_other(make_arguments: Make) -> None:
    arguments = make_arguments("binary_conv2d")
    arguments["packed"] = arguments["skip_packed"]
    for instruction_set in COMPILED:
        with use_instruction_set(instruction_set):
            check_refused("binary_conv2d", arguments, "packed shares memory with skip_packed; expected")


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_argument_is_kept(operator: str, make_arguments: Make, instruction_set: str) -> None:
    arguments = make_arguments(operator)
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    before = {name: tensor._use_count() for name, tensor in tensors.items()}
    for _ in range(3):
        call(operator, arguments)
        for name in tensors:
            check_refused(operator, {**arguments, name: tensors[name].double()}, "expected")
    assert {name: tensor._use_count() for name, tensor in tensors.items()} == before


@pytest.mark.parametrize("name", status().available)
def test_more_channels_than_nine_taps_can_be_counted_of(name: str) -> None:
    """The compiled operators count in 16 bits: 227 words of 32 channels are the most."""
    words, ones = 228, torch.ones(16)
    x, weight = torch.zeros(1, 3, 3, words, dtype=torch.int32), torch.zeros(1, 9, words, 16, dtype=torch.int32)
    base, out = torch.zeros(16, 16, dtype=torch.int32), torch.zeros(1, 2, 2, 16)
    rest = [None, None, None, out, None, None, None, None]
    arguments = [x, weight, None, None, base, 3, 1, True, ones, ones, *rest]
    with use_instruction_set(name), pytest.raises((RuntimeError, ValueError), match="228 words.*at most 227"):
        torch.ops.hidiff_monai.binary_conv2d(*arguments)
