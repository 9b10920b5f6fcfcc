"""Temperature scaling: what it keeps, and that a known temperature is found again."""

import math

import pytest
import torch
from sklearn.metrics import log_loss

from hidiff_monai.metrics import (
    apply_temperature,
    class_log_loss,
    fit_temperature,
    require_temperature,
    temper_threshold,
)


def draw_binary(temperature: float, number: int = 200_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels drawn from sigmoid(logit), and a probability that is surer than that by the temperature."""
    logits = 3 * torch.randn(number, 1, dtype=torch.float64)
    return torch.sigmoid(temperature * logits), torch.rand(number, 1) < torch.sigmoid(logits)


def draw_exclusive(temperature: float, number: int = 100_000) -> tuple[torch.Tensor, torch.Tensor]:
    logits = 2 * torch.randn(number, 4, dtype=torch.float64)
    classes = logits.softmax(1).multinomial(1)[:, 0]
    return (temperature * logits).softmax(1), torch.nn.functional.one_hot(classes, 4).bool()


def test_one_gives_the_tensor_itself() -> None:
    probability = torch.rand(2, 3, 4)
    assert apply_temperature(probability, 1.0) is probability
    assert apply_temperature(probability, 1, exclusive=True) is probability


def test_scaling_by_hand() -> None:
    """logit(0.8) = log 4 and half of it is log 2: 2/3. Of (0.64, 0.32, 0.04), the square roots are 4 : sqrt 8 : 1."""
    scaled = apply_temperature(torch.tensor([[0.8, 0.2, 0.5]], dtype=torch.float64), 2)
    assert scaled.tolist() == [pytest.approx([2 / 3, 1 / 3, 1 / 2])]
    scaled = apply_temperature(torch.tensor([[0.64, 0.32, 0.04]], dtype=torch.float64), 2, exclusive=True)
    roots = [4, math.sqrt(8), 1]
    assert scaled.tolist() == [pytest.approx([root / sum(roots) for root in roots])]


@pytest.mark.parametrize("temperature", [0.2, 0.9, 1.4, 15.0])
def test_no_pixel_crosses_one_half_not_even_in_the_last_bit(temperature: float) -> None:
    half = torch.tensor(0.5)
    near = [half]
    for direction in (0.0, 1.0):
        value = half
        for _ in range(40):
            value = torch.nextafter(value, torch.tensor(direction))
            near.append(value)
    probability = torch.cat([torch.stack(near), torch.rand(10_000), torch.tensor([0.0, 1.0, 1 + 1e-6, -1e-6])])[None]
    scaled = apply_temperature(probability, temperature)
    assert torch.equal(scaled > 0.5, probability > 0.5)
    assert ((scaled >= 0) & (scaled <= 1)).all()


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.4, 15.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_a_threshold_moves_with_the_probabilities(threshold: float, temperature: float) -> None:
    probability = torch.cat([torch.linspace(0, 1, 10_001), torch.tensor([threshold])])[None]
    away = ((probability - threshold).abs() > 1e-5) | (probability == threshold)
    moved = apply_temperature(probability, temperature) > temper_threshold(threshold, temperature)
    assert torch.equal(moved[away], (probability > threshold)[away])


def test_a_threshold_moved_by_hand() -> None:
    assert temper_threshold(0.8, 2) == pytest.approx(2 / 3)
    assert temper_threshold(0.5, 1.7) == 0.5


@pytest.mark.parametrize(("threshold", "temperature"), [(0.9, 0.1), (0.7, 0.05), (0.99, 0.2)])
def test_a_threshold_where_all_probabilities_round_to_one_is_refused(threshold: float, temperature: float) -> None:
    with pytest.raises(
        ValueError, match=rf"temperature {temperature} makes every .* threshold of {threshold} equal to 1"
    ):
        temper_threshold(threshold, temperature)


@pytest.mark.parametrize("temperature", [0.2, 1.4, 15.0])
def test_the_most_probable_class_stays_not_even_a_tie_of_rounding_moves_it(temperature: float) -> None:
    probability = torch.rand(2, 3, 50, 50).softmax(1)
    probability[0, 1] = torch.nextafter(probability[0, 0], torch.tensor(1.0))
    scaled = apply_temperature(probability, temperature, exclusive=True)
    assert torch.equal(scaled.argmax(1), probability.argmax(1))
    torch.testing.assert_close(scaled.sum(1), torch.ones(2, 50, 50))


@pytest.mark.parametrize("temperature", [0.05, 0.5, 0.7, 0.999, 1.001, 1.4, 3.0, 20.0])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_saturated_probabilities_stay_probabilities(temperature: float, exclusive: bool, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    winners = torch.tensor([1.0, 1 - eps, 1 - 4 * eps, 0.999, 0.9, 1 + eps], dtype=dtype)
    rest = (1 - winners).clamp(min=0)
    probability = torch.stack([rest / 2, winners, rest / 2] if exclusive else [winners, rest, winners - eps])[None]
    scaled = apply_temperature(probability, temperature, exclusive)
    assert scaled.dtype == dtype and ((scaled >= 0) & (scaled <= 1)).all()
    wide = scaled.double()
    assert (torch.special.entr(wide) + torch.special.entr(1 - wide)).isfinite().all()
    if exclusive:
        assert (scaled.argmax(1) == 1).all()
    else:
        assert torch.equal(scaled > 0.5, probability > 0.5)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.8])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_known_temperature_is_found_again(temperature: float, exclusive: bool) -> None:
    probability, truth = (draw_exclusive if exclusive else draw_binary)(temperature)
    halves = [(probability[part], truth[part]) for part in (slice(0, 30_000), slice(30_000, None))]
    found = fit_temperature(halves, exclusive)
    assert found == pytest.approx(temperature, rel=0.02)


@pytest.mark.parametrize("exclusive", [False, True])
def test_no_temperature_beside_it_has_a_smaller_loss_in_scikit_learn(exclusive: bool) -> None:
    probability, truth = (draw_exclusive if exclusive else draw_binary)(1.5, 2000)
    found = fit_temperature([(probability, truth)], exclusive)
    label = truth.int().argmax(1) if exclusive else truth.ravel()
    losses = []
    for factor in (0.98, 1.0, 1.02):
        scaled = apply_temperature(probability, factor * found, exclusive)
        losses.append(log_loss(label, scaled if exclusive else scaled.ravel()))
    assert losses[1] < min(losses[0], losses[2])


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("saturated", [False, True])
def test_a_fit_that_ends_at_a_bound_is_refused(exclusive: bool, saturated: bool) -> None:
    """Of a model that is always right, ever smaller temperatures; of one that knows nothing or less, ever larger."""
    label = torch.nn.functional.one_hot(torch.arange(300) % 3, 3).bool()
    right = label.float() if saturated else (0.5 * label.float() + 0.2) / 1.1
    with pytest.raises(ValueError, match=r"ends at temperature 0\.05; expected one between 0\.05 and 20; .*more cases"):
        fit_temperature([(right, label)], exclusive)
    for guess in (right.roll(1, 0), torch.full((300, 3), 1 / 3 if exclusive else 0.5)):
        with pytest.raises(ValueError, match="ends at temperature 20; .*labels and checkpoint belong together"):
            fit_temperature([(guess, label)], exclusive)


def test_the_loss_of_the_true_class_is_that_of_scikit_learn() -> None:
    probability, truth = draw_exclusive(1.5, 1000)
    parts = [(probability[part], truth[part]) for part in (slice(0, 300), slice(300, None))]
    assert class_log_loss(parts) == pytest.approx(log_loss(truth.int().argmax(1), probability))


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf"), "2", True, None])
def test_what_is_no_temperature_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        require_temperature(wrong)  # type: ignore[arg-type]
