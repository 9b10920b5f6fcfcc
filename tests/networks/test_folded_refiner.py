"""The folded refiner: block by block what the trained one computes, in exact sums, without anything of t left to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.networks.blocks import ConvBlock, DownLevel, UpLevel
from hidiff_monai.networks.folded_blocks import FoldedCrossTransformer, FoldedDownLevel, FoldedUpLevel, dense_block
from hidiff_monai.networks.folded_layers import BinaryLayer, RealLayer, absorb, dense_layer
from hidiff_monai.networks.folded_refiner import FoldedRefiner
from hidiff_monai.networks.folding import FoldedLayer
from hidiff_monai.networks.xformer import CrossTransformer
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

T, E = 10, 8
both_precisions = pytest.mark.parametrize("binarized", [True, False], ids=["binarized", "real"])


@pytest.fixture(autouse=True)
def no_grad() -> Any:
    with torch.no_grad():
        yield


def train(module: nn.Module, spread: float = 0.1) -> nn.Module:
    """As training leaves a module: statistics, thresholds, shifts, slopes and negative scales, none at its start."""
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * spread)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                layer.weight[::3] *= -1
    return module.eval()


def refiner(binarized: bool = True, num_targets: int = 1, width: int = 4) -> DiffusionRefiner:
    module = DiffusionRefiner(
        3, num_targets, (3, 4, 5, 6), channels=(width, width, 2 * width, 2 * width, 4 * width, 4 * width),
        embedding_dim=E, num_heads=2, binarized=binarized,
    )  # fmt: skip
    return train(module)  # type: ignore[return-value]


def inputs(module: DiffusionRefiner, batch: int = 2, height: int = 64, width: int = 32, t: int = 4):
    image, prior = torch.rand(batch, 3, height, width), torch.rand(batch, module.num_targets, height, width)
    features = [
        torch.randn(batch, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(module.feature_channels, module.feature_strides, strict=True)
    ]
    return image, torch.bernoulli(prior), prior, features, torch.full((batch,), t)


def table(channels: int, is_shift: bool) -> torch.Tensor:
    """What an input lacks, (T, channels, 1, 1): real-valued layers need theirs complete."""
    return torch.randn(T, channels, 1, 1) if is_shift else torch.zeros(T, channels, 1, 1)


@both_precisions
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "extra", "stride"), [(4, 4, 0, 1), (4, 8, 0, 2), (4, 4, 4, 1), (8, 4, 0, 1)]
)
def test_a_block_gives_what_the_trained_one_does(
    binarized: bool, in_channels: int, out_channels: int, extra: int, stride: int
) -> None:
    block = train(ConvBlock(in_channels, out_channels, E, binarized, extra, stride))
    embeddings, missing = torch.randn(T, E), table(in_channels, binarized)
    beside = table(extra, binarized) if extra else None
    folded = dense_block(block, embeddings, missing, torch.float32, beside)
    x, other = torch.randn(2, in_channels, 8, 6), torch.randn(2, extra, 8, 6) if extra else None
    for t in (0, 7):
        expected = block(x, embeddings[[t, t]], other)
        given = x - missing[t]
        shortcut = nn.functional.avg_pool2d(given, 2) if stride == 2 else given
        shortcut = shortcut.repeat(1, 2, 1, 1) if out_channels > in_channels else shortcut
        shortcut = shortcut.unflatten(1, [4, 2]).mean(2) if out_channels < in_channels else shortcut
        result = folded(given, torch.tensor([t]), shortcut, None if other is None else other - beside[t])
        torch.testing.assert_close(result + folded.remainder[t], expected, rtol=1e-5, atol=1e-5)


@both_precisions
def test_levels_give_what_the_trained_ones_do(binarized: bool) -> None:
    embeddings, t = torch.randn(T, E), 6
    index, both = torch.tensor([t]), embeddings[[t, t]]
    x, condition = torch.randn(2, 4, 8, 12), torch.randn(2, 8, 4, 6)
    missing = table(4, binarized)
    down = train(DownLevel(4, 8, E, binarized, stride=2, has_condition=True))
    folded = FoldedDownLevel(down, embeddings, missing, torch.float32)
    result = folded(x - missing[t], index, condition) + folded.basic.remainder[t]
    torch.testing.assert_close(result, down(x, both, condition), rtol=1e-5, atol=1e-5)

    skip, lacks = torch.randn(2, 4, 16, 24), table(4, binarized)
    up, wide = train(UpLevel(8, 4, E, binarized)), torch.randn(2, 8, 8, 12)
    missing = table(8, binarized)
    folded = FoldedUpLevel(up, embeddings, missing, lacks, torch.float32)
    result = folded(wide - missing[t], skip - lacks[t], index) + folded.basic.remainder[t]
    torch.testing.assert_close(result, up(wide, skip, both), rtol=1e-5, atol=1e-5)


@both_precisions
def test_the_transformer_gives_what_the_trained_one_does(binarized: bool) -> None:
    embeddings, t = torch.randn(T, E), 3
    missing = table(8, binarized)
    transformer = train(CrossTransformer(8, 2, E, binarized))
    folded = FoldedCrossTransformer(transformer, embeddings, missing, torch.float32)
    diffusion, prior = torch.randn(2, 8, 3, 2), torch.randn(2, 8, 3, 2)
    result = folded(diffusion - missing[t], prior, torch.tensor([t])) + missing[t]
    torch.testing.assert_close(result, transformer(diffusion, prior, embeddings[[t, t]]), rtol=1e-5, atol=1e-5)


def binary_layer(in_channels: int = 512, dtype: torch.dtype = torch.float32, **change: Any) -> nn.Module:
    """One output channel of weights +1, thresholds 0."""
    values = {"weight": torch.ones(1, in_channels, 1, 1), "threshold": torch.zeros(T, in_channels)}
    values |= {"scale": torch.ones(1), "bias": torch.zeros(T, 1), "slope": None, "zeta": None}
    return dense_layer(FoldedLayer(**{**values, **change}), dtype)


def test_a_sign_is_never_zero_and_the_threshold_itself_is_below() -> None:
    layer = binary_layer(1, threshold=torch.full((T, 1), 0.25))
    x = torch.tensor([0.24, 0.25, 0.26, 1.0]).reshape(1, 1, 1, 4)
    assert layer(x, torch.tensor([0])).flatten().tolist() == [-1, -1, 1, 1]
    layer = binary_layer(1)
    assert layer(torch.tensor([0.0, -0.0]).reshape(1, 1, 1, 2), torch.tensor([0])).flatten().tolist() == [-1, -1]


@pytest.mark.parametrize(("dtype", "last"), [(torch.float32, 512), (torch.float16, 512), (torch.bfloat16, 256)])
def test_sums_are_exact_as_far_as_their_number_format_says(dtype: torch.dtype, last: int) -> None:
    layer = binary_layer(512, dtype)
    positive = torch.arange(513)  # of 512 signs: sums -512, -510 ... 512
    x = torch.where(torch.arange(512)[:, None] < positive, 1.0, -1.0).reshape(1, 512, 1, 513)
    sums, exact = layer(x, torch.tensor([0])).flatten(), 2.0 * positive - 512
    inside = exact.abs() <= last
    assert torch.equal(sums[inside], exact[inside])
    torch.testing.assert_close(sums, exact, rtol=0.004, atol=0)


def test_half_precision_does_not_round_scale_and_bias() -> None:
    change = {"scale": torch.tensor([1 / 3]), "bias": torch.full((T, 1), 1e-4)}
    x = torch.randn(1, 512, 4, 4)
    full, half = (binary_layer(512, dtype, **change)(x, torch.tensor([0])) for dtype in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_a_channel_of_scale_zero_keeps_its_bias(scale: float) -> None:
    layer = binary_layer(4, scale=torch.tensor([scale]), bias=torch.full((T, 1), 0.7))
    torch.testing.assert_close(
        layer(torch.ones(1, 4, 1, 1), torch.tensor([0])).flatten(), torch.tensor([0.7 + 4 * scale])
    )


def test_binary_layers_keep_signs_only() -> None:
    module = FoldedRefiner(refiner(), T)
    layers = [layer for layer in module.modules() if isinstance(layer, BinaryLayer)]
    assert len(layers) == 5 * 3 + 2 + 5 * 2 + 2 * 6
    assert all((layer.weight.abs() == 2).all() for layer in layers)  # of signs +-1/2: products +-1
    seen: list[torch.Tensor] = []
    for layer in layers:
        signs = layer.signs
        layer.signs = lambda *given, signs=signs: (seen.append(signs(*given)), seen[-1])[1]
    module(*inputs(refiner()))
    assert len(seen) == len(layers) and all((x.abs() == 0.5).all() for x in seen)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


@both_precisions
@pytest.mark.parametrize(("num_targets", "height", "width"), [(1, 64, 32), (4, 50, 33)])
def test_noise_logits_are_nearly_equal(binarized: bool, num_targets: int, height: int, width: int) -> None:
    """Nearly: a sign that hangs on the last bit of its input may fall the other way."""
    module = refiner(binarized, num_targets)
    folded = FoldedRefiner(module, T)
    for t in (0, 5, 9):
        given = inputs(module, height=height, width=width, t=t)
        expected, result = module(*given), folded(*given)
        difference = (result - expected).abs() / expected.std()
        assert (difference > 1e-3).float().mean() < 0.01, f"t = {t}"


def network(binarized: bool = True, width: int = 8, **settings: Any) -> HiDiff:
    """A whole network whose refiner changes some ten per cent of the prior's pixels."""
    segmentor = UNetSegmentor(3, 2, (4, 4, 8, 8, 16, 16)).eval()
    nn.init.normal_(segmentor.head.weight)
    module = DiffusionRefiner(
        3, 2, segmentor.feature_channels, channels=(width, width, width, width, 16, 16), embedding_dim=E, num_heads=2,
        binarized=binarized,
    )  # fmt: skip
    return HiDiff(segmentor, train(module, 0.05), BernoulliScheduler(T), exclusive=True, **settings).eval()


def fold(joint: HiDiff, dtype: torch.dtype = torch.float32) -> HiDiff:
    folded = FoldedRefiner(joint.refiner, T, dtype)
    return HiDiff(joint.segmentor, folded, joint.scheduler, exclusive=True, num_inference_steps=3).eval()


@pytest.mark.parametrize(
    ("binarized", "dtype"),
    [(True, torch.float32), (False, torch.float32), (True, torch.float16), (True, torch.bfloat16)],
)
def test_masks_agree(binarized: bool, dtype: torch.dtype) -> None:
    joint, images = network(binarized, num_inference_steps=3), torch.rand(2, 3, 96, 64)
    prior = joint.predict_prior(images)[1].argmax(1)
    expected, result = joint(images).argmax(1), fold(joint, dtype)(images).argmax(1)
    assert (expected != prior).float().mean() > 0.01  # the refiner has a say
    dice = 2 * (expected * result).sum() / (expected.sum() + result.sum())
    assert dice >= 0.999


@both_precisions
def test_scripted_chain_equals_eager_at_other_sizes_and_settings(binarized: bool) -> None:
    folded = fold(network(binarized, num_inference_steps=3))
    scripted = torch.jit.script(folded)
    for image in (torch.rand(1, 3, 32, 64), torch.rand(2, 3, 45, 33)):
        torch.testing.assert_close(scripted(image), folded(image), rtol=0, atol=1e-5)
    scripted.sampler = folded.sampler = "ddim"
    scripted.num_samples = folded.num_samples = 3
    results = []
    for module in (scripted, folded):
        torch.manual_seed(1)
        results.append(module(image))
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)


@both_precisions
def test_chains_share_the_condition_of_their_image(binarized: bool) -> None:
    module = refiner(binarized)
    folded = FoldedRefiner(module, T)
    image, _, prior, features, t = inputs(module)
    condition = folded.encode_condition(image, prior, features)
    samples = torch.bernoulli(prior.repeat(3, 1, 1, 1))  # chain n is of image n % 2
    together = folded.denoise(samples, t[:1].repeat(6), prior, folded.repeat_condition(condition, 3))
    for chain in range(3):
        alone = folded.denoise(samples[2 * chain : 2 * chain + 2], t, prior, condition)
        torch.testing.assert_close(together[2 * chain : 2 * chain + 2], alone, rtol=1e-4, atol=1e-4)


@both_precisions
def test_nothing_is_left_to_train_or_to_embed(binarized: bool) -> None:
    module = refiner(binarized)
    folded = FoldedRefiner(module, T)
    given = inputs(module)
    before = folded(*given)
    assert not list(folded.parameters()) and "time_embedding" not in dict(folded.named_modules())
    for parameter in module.parameters():
        parameter.add_(1.0)  # a copy: training goes on without it
    assert torch.equal(folded(*given), before)
    with torch.enable_grad():
        given[0].requires_grad_()
        assert not folded(*given).requires_grad


def test_interface_is_that_of_the_trained_refiner() -> None:
    module = refiner()
    folded = FoldedRefiner(module, T)
    for name in ("image_channels", "num_targets", "feature_channels", "feature_strides", "divisor", "binarized"):
        assert getattr(folded, name) == getattr(module, name)


def test_wrong_inputs_are_explained() -> None:
    module = refiner()
    folded = FoldedRefiner(module, T)
    image, sample, prior, features, t = inputs(module)
    with pytest.raises(ValueError, match="gave 3 feature maps; expected 4"):
        folded(image, sample, prior, features[:3], t)
    with pytest.raises(ValueError, match="stride 4 has 8 rows for an image of 64"):
        folded(image, sample, prior, [features[1], *features[1:]], t)
    with pytest.raises(ValueError, match="expected one for the whole batch"):
        folded(image, sample, prior, features, torch.tensor([1, 2]))
    condition = folded.encode_condition(image, prior, features)
    with pytest.raises(ValueError, match="3 chains of 2 images"):
        folded.denoise(sample[:1].repeat(3, 1, 1, 1), t[:1].repeat(3), prior, condition)
    with pytest.raises(ValueError, match="binarized is False; expected torch.float32"):
        FoldedRefiner(refiner(binarized=False), T, torch.bfloat16)
    with pytest.raises(ValueError, match="torch.float64"):
        FoldedRefiner(module, T, torch.float64)


def test_real_layers_have_no_threshold_to_absorb_a_shift() -> None:
    layer = FoldedLayer(torch.ones(1, 1, 1, 1), None, torch.ones(1), torch.zeros(T, 1), None, None)
    assert absorb(layer, torch.zeros(T, 1)).threshold is None
    assert isinstance(dense_layer(layer), RealLayer)
