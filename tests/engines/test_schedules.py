"""Polynomial decay against its closed form."""

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from hidiff_monai.engines import PolynomialDecay


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 1.0), (15, 0.5**0.9), (29, (1 / 30) ** 0.9), (30, 1.0), (65, 0.5**0.9), (99, (1 / 70) ** 0.9), (100, 0.0)],
)
def test_decay_starts_anew_at_every_boundary(epoch: int, factor: float) -> None:
    assert PolynomialDecay([0, 30, 100])(epoch) == pytest.approx(factor, rel=1e-12)


def test_factor_is_one_before_the_first_boundary_and_zero_after_the_last() -> None:
    decay = PolynomialDecay([10, 20], power=2.0)
    assert [decay(epoch) for epoch in (0, 9, 10, 15, 20, 50)] == [1.0, 1.0, 1.0, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("boundaries", [[], [5], [5, 2]])
def test_wrong_boundaries_are_refused(boundaries: list[int]) -> None:
    with pytest.raises(ValueError, match="boundaries is .*expected two or more rising epochs"):
        PolynomialDecay(boundaries)


def build(max_epochs: int, lr: float = 0.1) -> LambdaLR:
    return LambdaLR(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr), PolynomialDecay([0, max_epochs], 1.0))


def test_training_resumed_with_more_epochs_follows_its_own_configuration() -> None:
    """LambdaLR would restore the old boundaries, and every added epoch would have a learning rate of 0."""
    short, long = build(2), build(4)
    for _ in range(2):
        short.optimizer.step()
        short.step()
    assert short.get_last_lr() == [0.0]
    long.load_state_dict(short.state_dict())
    long.optimizer.step()
    long.step()
    assert long.get_last_lr() == pytest.approx([0.1 * (1 - 3 / 4)])


def test_state_of_an_earlier_version_loads_without_effect_on_the_boundaries() -> None:
    schedule = build(4)
    state = {**schedule.state_dict(), "lr_lambdas": [{"boundaries": [0, 1], "power": 5.0}]}
    schedule.load_state_dict(state)
    assert schedule.lr_lambdas[0].boundaries == [0, 4]
    assert schedule.lr_lambdas[0](2) == 0.5
