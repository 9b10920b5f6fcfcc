"""Which settings are measured."""

from __future__ import annotations

import pytest

from hidiff_monai.dial.grid import PRIOR, make_grid
from hidiff_monai.prediction.sampler import SamplerSetting


def of(grid: list[SamplerSetting], sampler: str) -> list[tuple[int, int]]:
    return [(setting.steps, setting.samples) for setting in grid if setting.sampler == sampler]


def test_the_whole_grid() -> None:
    grid = make_grid(10)
    assert grid[0] == PRIOR and len(grid) == len(set(grid)) == 12
    assert of(grid, "hard") == [(1, 1), (2, 1), (3, 1), (5, 1), (10, 1)]
    assert of(grid, "ddim") == [(5, 1), (5, 4), (5, 16), (10, 1), (10, 4), (10, 16)]


def test_the_sampler_with_the_whole_posterior_is_measured_where_it_is_asked_for() -> None:
    grid = make_grid(10, steps=[1, 10], samples=[16], samplers=["ddpm", "hard"])
    assert grid == [PRIOR, SamplerSetting("hard", 1), SamplerSetting("hard", 10), SamplerSetting("ddpm", 10, 16)]
    assert {setting.sampler for setting in make_grid(10)} == {"prior", "hard", "ddim"}


def test_a_part_of_it() -> None:
    grid = make_grid(10, steps=[1, 2, 5], samples=[1, 4])
    assert of(grid, "prior") == [(0, 1)]
    assert of(grid, "hard") == [(1, 1), (2, 1), (5, 1)] and of(grid, "ddim") == [(5, 1), (5, 4)]


@pytest.mark.parametrize(("max_steps", "hard", "ddim"), [(3, [1, 2, 3], [3]), (5, [1, 2, 3, 5], [5]), (1, [1], [1])])
def test_no_more_steps_than_the_network_has(max_steps: int, hard: list[int], ddim: list[int]) -> None:
    grid = make_grid(max_steps)
    assert [steps for steps, _ in of(grid, "hard")] == hard
    assert of(grid, "ddim") == [(steps, chains) for steps in ddim for chains in (1, 4, 16)]


@pytest.mark.parametrize(
    ("steps", "samples", "name"), [([4], None, "--steps"), (None, [2], "--samples"), ([], None, "--steps")]
)
def test_what_is_not_on_the_grid_is_refused(steps: list[int] | None, samples: list[int] | None, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} .*expected some of \[1, "):
        make_grid(10, steps, samples)


@pytest.mark.parametrize("samplers", [["dpm"], [], [True]])
def test_an_unknown_sampler_is_refused(samplers: list[str]) -> None:
    with pytest.raises(ValueError, match=r"--samplers .*expected some of \['hard', 'ddim', 'ddpm'\], or leave it out"):
        make_grid(10, samplers=samplers)
