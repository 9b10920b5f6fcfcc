"""A folded layer computes what the trained one does, at every t."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from hidiff_monai.networks import DiffusionRefiner
from hidiff_monai.networks.folding import (
    FoldedLayer,
    fold_block,
    fold_real,
    fold_threshold,
    fold_tokens,
    time_embeddings,
)

T = 5


def apply(layer: FoldedLayer, x: torch.Tensor, shortcut: torch.Tensor, t: int, stride: int = 1) -> torch.Tensor:
    """activate(weight * sign(x - threshold) * scale + bias + shortcut), in float64; real-valued without the sign."""
    weight, scale, bias = layer.weight.double(), layer.scale.double(), layer.bias[t].double()
    if layer.threshold is not None:
        x = (x > layer.threshold[t][:, None, None]).double() * 2 - 1
    value = F.conv2d(x.double(), weight, stride=stride, padding=weight.shape[2] // 2)
    value = value * scale[:, None, None] + bias[:, None, None] + shortcut
    if layer.slope is not None and layer.zeta is not None:
        value = F.prelu(value, layer.slope.double()) + layer.zeta[t][:, None, None]
    return value.float()


@pytest.mark.parametrize("binarized", [True, False], ids=["binarized", "real"])
@torch.no_grad()
def test_a_block_at_every_t(binarized: bool, trained_refiner: Callable[..., DiffusionRefiner]) -> None:
    refiner = trained_refiner(binarized=binarized)
    embeddings = time_embeddings(refiner, T)
    assert embeddings.shape == (T, 8)
    down = refiner.down_levels[1].down
    folded, x = fold_block(down, embeddings), torch.randn(2, 8, 12, 16)
    assert (folded.threshold is None) != binarized
    if binarized:
        assert set(folded.weight.unique().tolist()) == {-1.0, 1.0}
    for t in range(T):
        embedding = refiner.time_embedding(torch.full((2,), t))
        expected = down(x, embedding)
        torch.testing.assert_close(
            apply(folded, x, F.avg_pool2d(x, 2), t, stride=2), expected, rtol=1e-4, atol=1e-5
        )  # fmt: skip


@pytest.mark.parametrize("binarized", [True, False], ids=["binarized", "real"])
@torch.no_grad()
def test_a_linear_layer_and_the_activation_after_it(
    binarized: bool, trained_refiner: Callable[..., DiffusionRefiner]
) -> None:
    refiner = trained_refiner(binarized=binarized)
    embeddings, block = time_embeddings(refiner, T), refiner.cross_transformer.into_prior
    tokens = torch.randn(2, 6, 48)
    as_map = tokens.transpose(1, 2)[..., None]  # (B, C, N, 1)
    for t in range(T):
        embedding = refiner.time_embedding(torch.full((2,), t))
        plain = fold_tokens(block.query, embeddings)
        assert plain.slope is None and plain.zeta is None
        result = apply(plain, as_map, torch.zeros(1), t)[..., 0].transpose(1, 2)
        torch.testing.assert_close(result, block.query(tokens, embedding), rtol=1e-4, atol=1e-5)
        active = apply(fold_tokens(block.expand, embeddings, block.activate), as_map, torch.zeros(1), t)
        expected = block.activate(block.expand(tokens, embedding), embedding)
        torch.testing.assert_close(active[..., 0].transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_thresholds_decide_as_the_trained_layer(trained_refiner: Callable[..., DiffusionRefiner]) -> None:
    refiner = trained_refiner()
    binarize = refiner.up_levels[0].merge.binarize
    thresholds = fold_threshold(binarize, time_embeddings(refiner, T))
    x = torch.randn(3, 64, 9, 7)
    for t in range(T):
        expected = binarize(x, refiner.time_embedding(torch.full((3,), t)))
        assert torch.equal((x > thresholds[t][:, None, None]) * 2.0 - 1, expected)
    assert (thresholds[0] - thresholds[1]).abs().max() > 1e-3


@torch.no_grad()
def test_a_real_convolution_takes_its_batchnorm_along(trained_refiner: Callable[..., DiffusionRefiner]) -> None:
    refiner = trained_refiner()
    folded, x = fold_real(refiner.stem_image, refiner.stem_norm), torch.rand(2, 4, 9, 8)
    expected = refiner.stem_norm(refiner.stem_image(x))
    torch.testing.assert_close(F.conv2d(x, folded.weight, folded.bias, padding=1), expected, rtol=1e-4, atol=1e-5)
