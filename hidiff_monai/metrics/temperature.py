"""Temperature scaling: one number that makes probabilities as sure as they are right (Guo et al., ICML 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.optimize import minimize_scalar

SMALLEST, LARGEST = 0.05, 20.0  # temperatures that are looked at
NEAREST_TO_ONE = 2**-14  # closer to 1, float32 has too few numbers to tell probabilities apart


def require_temperature(temperature: float) -> float:
    """The temperature, if it is one.

    Raises:
        ValueError: it is no finite number above 0.
    """
    is_number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not is_number or not math.isfinite(temperature) or temperature <= 0:
        raise ValueError(
            f"temperature is {temperature!r}; expected a number above 0, 1 for no change: `hidiff calibrate` finds it"
        )
    return float(temperature)


def apply_temperature(probability: torch.Tensor, temperature: float, exclusive: bool = False) -> torch.Tensor:
    """sigmoid(logit(p)/T), or of exclusive classes softmax(log(p)/T): flatter for T > 1, sharper for T < 1.

    The decision is kept to the last bit: what lies above 1/2 stays above it, and the most probable class stays so,
    also where rounding would make two values equal.

    Args:
        probability: (B, K, ...), in [0, 1]; what rounding left outside is brought inside.
        temperature: T > 0; 1 gives the tensor itself.
        exclusive: whether the K >= 2 classes exclude each other; they then sum to 1 over the second axis.

    Returns:
        Same shape, in [0, 1] for every T but 1.
    """
    if temperature == 1:
        return probability
    scaled = (_log_probability if exclusive else _logit)(probability) / temperature
    eps = torch.finfo(probability.dtype).eps
    if exclusive:
        scaled, winner = scaled.softmax(dim=1), probability.argmax(dim=1, keepdim=True)
        above = (scaled.amax(dim=1, keepdim=True) * (1 + eps)).clamp(max=1)  # near 1 there is no tie
        return scaled.scatter(1, winner, above)
    scaled = scaled.sigmoid()
    return torch.where(probability > 0.5, scaled.clamp(min=0.5 + eps), scaled.clamp(max=0.5))


def temper_threshold(threshold: float, temperature: float) -> float:
    """Where a threshold in [0, 1] lies on probabilities of one structure that `apply_temperature` has scaled.

    The mask stays as it was, but for what rounding decides; 1/2 stays 1/2.

    Raises:
        ValueError: it lies where the probabilities above it have rounded to 1.
    """
    moved = float(apply_temperature(torch.tensor([[threshold]]), temperature))
    if threshold < 1 and moved > 1 - NEAREST_TO_ONE:
        raise ValueError(
            f"temperature {temperature:g} makes every probability about the threshold of {threshold:g} equal to 1; "
            "expected a temperature at which they differ: take a larger one, or a threshold nearer to 0.5"
        )
    return moved


def fit_temperature(cases: Sequence[tuple[torch.Tensor, torch.Tensor]], exclusive: bool = False) -> float:
    """The T with the least mean log-likelihood loss over all pixels of all cases, between 0.05 and 20.

    The loss is convex in 1/T, so its minimum over log T is the only one.

    Args:
        cases: of each, probability (N, K) in [0, 1] and truth (N, K), bool; of exclusive classes one true a pixel.
        exclusive: see `apply_temperature`.

    Raises:
        ValueError: no temperature between the bounds has a smaller loss than one of them.
    """
    known = [((_log_probability if exclusive else _logit)(probability), truth) for probability, truth in cases]

    def loss(log_temperature: float) -> float:
        total = [_loss_of_logits(logits / math.exp(log_temperature), truth, exclusive) for logits, truth in known]
        return sum(total)

    bounds = (math.log(SMALLEST), math.log(LARGEST))
    found = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x)
    for bound in reversed(bounds):  # the larger one also where every temperature has the same loss
        if math.isclose(found, bound, abs_tol=1e-3) or loss(bound) <= loss(found):
            raise ValueError(_at_bound(math.exp(bound)))
    return math.exp(found)


def _at_bound(temperature: float) -> str:
    cause = (
        "no pixel of these cases is wrong enough to say how sure the model may be: take more cases"
        if temperature < 1
        else "the probabilities say little about the labels: check that labels and checkpoint belong together"
    )
    return (
        f"the fit ends at temperature {temperature:g}; expected one between {SMALLEST:g} and {LARGEST:g}; none mends "
        f"these probabilities. Perhaps {cause}"
    )


def class_log_loss(cases: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """-log of the probability of the true class, of classes that exclude each other, mean over pixels, in nats.

    Of structures that do not exclude each other it is `ProbabilitySums.scores`'s *nll*.

    Args:
        cases: of each, probability (N, K) in [0, 1] and truth (N, K), bool, with one true a pixel.
    """
    losses = [_loss_of_logits(_log_probability(probability), truth, exclusive=True) for probability, truth in cases]
    return sum(losses) / sum(len(truth) for _, truth in cases)


def _loss_of_logits(logits: torch.Tensor, truth: torch.Tensor, exclusive: bool) -> float:
    """Summed over pixels, and over channels that do not exclude each other."""
    if exclusive:
        losses = logits.logsumexp(dim=1) - logits[truth]
    else:
        losses = torch.nn.functional.softplus(torch.where(truth, -logits, logits))
    return float(losses.sum(dtype=torch.float64))


def _logit(probability: torch.Tensor) -> torch.Tensor:
    eps = torch.finfo(probability.dtype).eps
    return torch.logit(probability, eps=eps)


def _log_probability(probability: torch.Tensor) -> torch.Tensor:
    return probability.clamp(torch.finfo(probability.dtype).eps, 1).log()
