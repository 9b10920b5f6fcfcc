"""The layers that are timed: their work by hand, and that every rival computes the same convolution."""

from __future__ import annotations

import pytest
import torch

from hidiff_monai.benchmark.layer_shapes import CYCLES_PER_VECTOR, Layer, choose_layers
from hidiff_monai.benchmark.layers import BF16, FP32, INT8, PACKED, PREPACKED, make_candidates

BASIC = Layer("basic", 64, 32, 6)
MERGE = Layer("merge", 32, 64, 8, upsamples=True, extra_channels=32)
DOWN = Layer("down", 32, 64, 4, stride=2)
EXPAND = Layer("expand", 32, 128, 3, 1, has_shortcut=False, keeps_stream=False)
PROJECT = Layer("project", 32, 32, 3, 1)


def test_work_by_hand() -> None:
    assert BASIC.multiply_adds == BASIC.fewest_multiply_adds == 36 * 32 * 9 * 64
    assert MERGE.multiply_adds == 64 * 64 * 9 * 64
    assert MERGE.fewest_multiply_adds == 64 * 64 * 9 * 32 + 16 * 64 * 9 * 32  # the enlarged half at low resolution
    assert DOWN.multiply_adds == 16 * 64 * 9 * 32
    assert EXPAND.multiply_adds == 9 * 128 * 32
    assert [layer.in_size for layer in (BASIC, MERGE, DOWN, EXPAND)] == [6, 4, 8, 3]
    assert MERGE.name == "3x3 32+32 -> 64, 8^2, merge"


def test_limit_is_of_all_threads_at_the_clock() -> None:
    assert BASIC.limit_s(1.0, 2e9, 4) == pytest.approx(BASIC.multiply_adds / 512 / 8e9)
    paper = choose_layers(128, 256)[0]
    zen4, zen5 = (paper.limit_s(CYCLES_PER_VECTOR[family], 3.6e9, 1) for family in ("25", "26"))
    assert zen4 == pytest.approx(7.86e-3, rel=1e-3) and zen5 == pytest.approx(zen4 / 2)  # 128 -> 128 at 256^2


def test_layers_are_those_of_the_refiner() -> None:
    names = [layer.name for layer in choose_layers(128, 256)]
    assert names == [
        "3x3 128 -> 128, 256^2, basic",
        "3x3 128+128 -> 128, 256^2, merge",
        "3x3 128 -> 128, 128^2, basic",
        "3x3 128 -> 256, 64^2, down",
        "3x3 256 -> 256, 64^2, basic",
        "3x3 256+256 -> 256, 32^2, condition",
        "3x3 512 -> 512, 16^2, basic",
        "1x1 512 -> 512, 8^2, project",
        "1x1 512 -> 2048, 8^2, expand",
        "1x1 512 -> 512, 32^2, project",
        "1x1 512 -> 2048, 32^2, expand",
    ]


@pytest.mark.parametrize("layer", [BASIC, MERGE, DOWN, EXPAND, PROJECT], ids=lambda layer: layer.role)
@torch.no_grad()
def test_rivals_convolve_the_same_signs(layer: Layer) -> None:
    calls = make_candidates(layer)
    expected = calls[FP32]()
    assert expected.shape == (1, layer.out_channels, layer.size, layer.size)
    assert expected.abs().max() > 8
    assert torch.equal(calls[BF16]().float(), expected.bfloat16().float())
    if PREPACKED in calls:
        assert torch.equal(calls[PREPACKED](), expected)
    if INT8 in calls:
        assert (calls[INT8]().dequantize() - expected).abs().max() <= 8  # steps of 16


@pytest.mark.parametrize("layer", [BASIC, MERGE, DOWN, EXPAND, PROJECT], ids=lambda layer: layer.role)
@torch.no_grad()
def test_packed_computes_that_convolution_and_what_follows(layer: Layer) -> None:
    """From the operator's own arguments: scale, bias and shortcut undone, its values are the float32 ones."""
    calls = make_candidates(layer)
    call = calls[PACKED]
    arguments = list(call.args)
    scale, bias, shortcut, out = (arguments[i] for i in (8, 9, 10, 13))
    before = None if shortcut is None else shortcut.clone()
    raw = torch.zeros(1, layer.size, layer.size, layer.out_channels)
    scale.fill_(1.0)
    bias.zero_()
    arguments[10:14] = [None, None, None, raw]  # no shortcut, no activation
    call.func(*arguments)
    assert torch.equal(raw.permute(0, 3, 1, 2), calls[FP32]())
    assert before is None or torch.equal(before, shortcut)
    assert (out is None) == (layer.role == "expand")


@torch.no_grad()
def test_a_stream_that_is_updated_in_place_stays_bounded() -> None:
    call = make_candidates(BASIC := Layer("basic", 32, 32, 6))[PACKED]
    for _ in range(3000):
        call()
    assert BASIC.size == 6 and call.args[13] is call.args[10]
    assert call.args[13].abs().max() < 10
