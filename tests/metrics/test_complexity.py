"""Counts against the formulas by hand, and the budget of the paper's Table XI."""

import json

import pytest
import torch

from hidiff_monai.metrics import ComplexityReport, Operations, complexity
from hidiff_monai.networks import DiffusionRefiner

MERIT_CHANNELS = (96, 192, 384, 768)


def tiny(binarized: bool = True) -> DiffusionRefiner:
    """Two levels, of 4 and 8 channels, the bottleneck at stride 2."""
    return DiffusionRefiner(3, 2, (5,), (2,), channels=(4, 8), embedding_dim=6, num_heads=2, binarized=binarized)


def paper_size(binarized: bool) -> ComplexityReport:
    with torch.device("meta"):
        refiner = DiffusionRefiner(3, 1, MERIT_CHANNELS, binarized=binarized)
    return complexity(refiner)


def convolutions(full: int, half: int) -> int:
    """Multiply-adds of the 3x3 blocks of ``tiny`` with ``full`` and ``half`` pixels at its two levels."""
    down = 2 * full * 9 * 4 * 4 + half * 9 * (4 * 8 + 2 * 8 * 8)
    up = full * 9 * ((8 + 4) * 4 + 4 * 4)
    return down + up


def test_operations_by_hand() -> None:
    full, half = 8 * 12, 4 * 6
    report = complexity(tiny(), (8, 12), num_steps=4)
    linear = 2 * half * 12 * 8 * 8  # two blocks, 4 C^2 + 8 C^2 per token
    attention = 2 * half * half * 8  # two blocks, Q K^T or A V
    ends = 2 * full * 9 * 2 * 4  # y_t in, noise out
    assert report.per_step == Operations(ends + attention, convolutions(full, half) + linear + attention)
    assert report.per_image == Operations(full * 9 * 5 * 4 + half * 5 * 8, 0)
    assert report.total.binary == 4 * report.per_step.binary
    assert report.total.real == report.per_image.real + 4 * report.per_step.real
    assert report.per_step.total == report.per_step.real + report.per_step.binary / 64
    assert sum(report.step_parts.values(), Operations()) == report.per_step


def test_real_twin_does_the_same_work_in_real_numbers() -> None:
    binarized, real = complexity(tiny(), (8, 12)), complexity(tiny(False), (8, 12))
    assert real.per_step == Operations(binarized.per_step.real + binarized.per_step.binary, 0)
    assert real.per_image == binarized.per_image
    assert real.binary_parameters == real.storage.binary_weights == real.storage.binary_scales == 0


def test_storage_by_hand() -> None:
    report = complexity(tiny(), (8, 8), num_steps=4)
    channels = [4, 4, 8, 8, 8, 4, 4]  # the outputs of the seven 3x3 blocks
    tokens = 2 * (5 * 8 + 32)  # the outputs of the linear layers
    binary = convolutions(1, 1) + 2 * 12 * 8 * 8
    assert report.binary_parameters == binary
    assert report.storage.binary_weights == binary // 8
    assert report.storage.binary_scales == 4 * (sum(channels) + tokens)
    ends = 9 * 5 * 4 + 9 * 2 * 4 + 9 * 4 * 2 + 2 + 5 * 8  # stems, head and its bias, projection
    norms = 2 * (4 + 8 + sum(channels) + tokens)
    slopes = sum(channels) + 2 * 32
    assert report.storage.real_weights == 4 * (ends + norms + slopes)
    thresholds = 4 + 4 + 4 + 8 + 8 + 12 + 4 + 2 * (8 * 8 + 32)
    assert report.storage.time_tables == 4 * 4 * (thresholds + 2 * slopes)
    assert report.storage.total == sum(vars(report.storage).values())
    everything = sum(parameter.numel() for parameter in tiny().parameters())
    assert report.real_parameters + report.binary_parameters == everything


def test_refiner_is_left_as_it_was() -> None:
    refiner = tiny().train()
    before = {name: value.clone() for name, value in refiner.state_dict().items()}
    complexity(refiner)
    assert refiner.training and not any(module._forward_hooks for module in refiner.modules())
    assert all(torch.equal(value, before[name]) for name, value in refiner.state_dict().items())


def test_budget_of_the_paper() -> None:
    """Design, section 4: at 256 x 256, width 128, T = 10."""
    binarized, real = paper_size(True), paper_size(False)
    assert binarized.per_step.total <= 0.41e10
    assert binarized.storage.total <= 18.6e6
    assert real.per_step.total >= 22 * binarized.per_step.total
    assert real.total.total >= 22 * binarized.total.total


def test_table_and_dictionary_tell_the_same() -> None:
    report = paper_size(True)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["per_step"]["operations"] == report.per_step.total
    assert plain["packed_bytes"]["total"] == report.storage.total
    text = report.format()
    assert f"{report.per_step.total / 1e9:.4f}" in text and f"{report.storage.total / 1e6:.2f} = " in text
    assert "real + binary / 64" in text and "256 x 256" in text


@pytest.mark.parametrize(("size", "steps"), [((0, 8), 10), ((8, 8), 0)])
def test_empty_questions_are_refused(size: tuple[int, int], steps: int) -> None:
    with pytest.raises(ValueError, match="expected numbers of at least 1"):
        complexity(tiny(), size, steps)
