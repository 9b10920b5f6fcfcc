"""Operations of the packed refiner: as the trained one's, but for what packing saves and fills up."""

from collections.abc import Callable

import pytest
import torch

from hidiff_monai.metrics import complexity
from hidiff_monai.networks import DiffusionRefiner
from hidiff_monai.networks.packed_complexity import packed_complexity


def refiner(width: int, binarized: bool = True) -> DiffusionRefiner:
    channels = [width, width, 2 * width, 2 * width]
    return DiffusionRefiner(3, 2, (5, 6, 7), (2, 4, 8), channels, 8, 2, binarized)


@pytest.mark.parametrize("width", [8, 32])
@pytest.mark.parametrize("size", [(32, 64), (30, 57)])
def test_the_twin_and_the_work_per_image_are_those_of_the_trained_refiners(width: int, size: tuple[int, int]) -> None:
    cost = packed_complexity(refiner(width).compile_inference(10), size)
    real = complexity(refiner(width, binarized=False), size)
    assert cost.real_twin == real.per_step
    assert cost.per_image == real.per_image
    assert cost.ratio == real.per_step.total / cost.per_step.total > 5


def test_nearest_x2_saves_three_quarters_and_nothing_else_differs() -> None:
    """At a width of whole words nothing is filled up."""
    trained, size = refiner(32), (32, 64)
    cost, expected = packed_complexity(trained.compile_inference(10), size), complexity(trained, size)
    assert cost.step_parts.keys() == expected.step_parts.keys()
    for name, part in expected.step_parts.items():
        binary = part.binary
        if name.startswith("up_levels"):
            level = 2 - int(name[-1])
            low = trained.down_levels[level + 1].basic.out_channels
            binary -= (
                (size[0] >> level)
                * (size[1] >> level)
                * 9
                * low
                * trained.down_levels[level].basic.out_channels
                * 3
                // 4
            )
        elif name == "cross_transformer":
            binary -= 2 * 32 * 32 * 64  # Q K^T of both blocks on 4 x 8 tokens: floats here
        assert cost.step_parts[name].binary == binary
    assert sum(part.total for part in cost.step_parts.values()) == cost.per_step.total


def test_narrow_layers_are_filled_up() -> None:
    cost, trained = packed_complexity(refiner(8).compile_inference(10), (32, 64)), complexity(refiner(8), (32, 64))
    assert cost.per_step.binary > trained.per_step.binary


def test_the_papers_width_stays_within_its_budget() -> None:
    """HiDiff, Table XI: 0.41e10 operations a step and 18.6 MB."""
    with torch.device("cpu"):
        full = DiffusionRefiner(3, 1, (96, 192, 384, 768))
    cost = packed_complexity(full.compile_inference(10))
    assert cost.per_step.total < 0.41e10 and cost.ratio > 22


def test_sizes_are_positive(trained_refiner: Callable[..., DiffusionRefiner]) -> None:
    with pytest.raises(ValueError, match=r"image_size is \(0, 4\); expected numbers of at least 1"):
        packed_complexity(trained_refiner().compile_inference(10), (0, 4))
