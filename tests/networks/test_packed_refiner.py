"""The packed refiner computes what the trained one does, layer by layer and as a whole, in memory that it keeps."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.networks.folded_refiner import FoldedRefiner
from hidiff_monai.networks.packed_layers import PackedConv
from hidiff_monai.networks.packed_refiner import PackedRefiner
from hidiff_monai.ops import packing
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

T = 10
Build = Callable[..., DiffusionRefiner]
Draw = Callable[..., Any]


class Given(nn.Module):
    """Stands in for a binarization: gives these signs, whatever it gets."""

    def __init__(self, signs: torch.Tensor) -> None:
        super().__init__()
        self.signs = signs

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return self.signs


def blocks(refiner: DiffusionRefiner, packed: PackedRefiner) -> list[tuple[str, nn.Module, PackedConv]]:
    """Every 3x3 layer, trained and packed."""
    pairs = []
    for kind in ("down_levels", "up_levels"):
        for i, level in enumerate(getattr(packed, kind)):
            for name, layer in level.named_children():
                pairs.append((f"{kind}.{i}.{name}", getattr(getattr(refiner, kind)[i], name), layer))
    return pairs


@torch.no_grad()
def test_every_block_from_the_same_signs(trained_refiner: Build) -> None:
    """One sign that rounding turns over would change much that follows: so each layer gets the same ones."""
    refiner = trained_refiner()
    packed = refiner.compile_inference(T, torch.float32)
    pairs = blocks(refiner, packed)
    assert len(pairs) == 4 * 3 - 1 + 3 * 2
    for name, block, layer in pairs:
        for t in (0, 4, 9):
            size = (6, 10)
            wide = (12, 20) if layer.upsamples else size
            x = torch.randn(2, *size, layer.in_channels)
            bits = packing.allocate_packed(2, *size, layer.in_channels, 1)
            torch.ops.hidiff_monai.pack_signs(x, layer.threshold[t], bits)
            signs = packing.unpack_map(bits, layer.in_channels, 1).permute(0, 3, 1, 2)
            whole, extra, extra_bits = x.permute(0, 3, 1, 2), None, None
            if layer.upsamples:
                signs, whole = F.interpolate(signs, scale_factor=2.0), F.interpolate(whole, scale_factor=2.0)
            if layer.extra_channels:
                extra = torch.randn(2, *wide, layer.extra_channels)
                extra_bits = packing.allocate_packed(2, *wide, layer.extra_channels, 1)
                torch.ops.hidiff_monai.pack_signs(extra, layer.extra_threshold[t], extra_bits)
                beside = packing.unpack_map(extra_bits, layer.extra_channels, 1).permute(0, 3, 1, 2)
                signs, extra = torch.cat([signs, beside], dim=1), extra.permute(0, 3, 1, 2)
            twin = copy.deepcopy(block)
            embedding = refiner.time_embedding(torch.full((2,), t))
            own = block.binarize(whole if extra is None else torch.cat([whole, extra], dim=1), embedding)
            assert (own != signs).float().mean() < 1e-4, name  # thresholds, but for the last bit
            twin.binarize = Given(signs)
            expected = twin(whole, embedding, extra)
            out = torch.empty(expected.permute(0, 2, 3, 1).shape)
            layer(t, bits, extra_bits, x, out)
            torch.testing.assert_close(out.permute(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5, msg=name)


@torch.no_grad()
def test_every_linear_layer_from_the_same_signs(trained_refiner: Build) -> None:
    refiner = trained_refiner()
    packed = refiner.compile_inference(T, torch.float32)
    for half in ("into_prior", "into_diffusion"):
        block, attention = getattr(refiner.cross_transformer, half), getattr(packed.cross_transformer, half)
        for name in ("query", "key", "value", "project", "expand", "reduce"):
            layer, trained = getattr(attention, name), getattr(block, name)
            x, t = torch.randn(2, 3, 4, layer.in_channels), 7
            bits = packing.allocate_packed(2, 3, 4, layer.in_channels, 0)
            torch.ops.hidiff_monai.pack_signs(x, layer.threshold[t], bits)
            embedding = refiner.time_embedding(torch.full((2,), t))
            twin = copy.deepcopy(trained)
            twin.binarize = Given(packing.unpack_map(bits, layer.in_channels, 0).flatten(1, 2))
            expected = twin(x.flatten(1, 2), embedding)
            if name == "expand":
                expected = block.activate(expected, embedding)
            out = torch.empty(2, 3, 4, layer.out_channels)
            layer(t, bits, None, None, out)
            torch.testing.assert_close(out.flatten(1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_targets", [1, 4])
@pytest.mark.parametrize("size", [(32, 32), (21, 45), (8, 8), (1, 1)])
@pytest.mark.parametrize(
    ("channels", "strides"), [((8, 8, 16, 48), (1, 4, 8)), ((32, 32, 64, 64), (2, 4, 8)), ((4, 12), (2,))]
)
@torch.no_grad()
def test_noise_logits_are_the_trained_ones(
    num_targets: int, size: tuple[int, int], channels: tuple, strides: tuple, trained_refiner: Build, draw_inputs: Draw
) -> None:
    refiner = trained_refiner(num_targets, channels, strides)
    packed = refiner.compile_inference(T, torch.float32)
    shares, loudest = [], 0.0
    for t in (0, 5, 9):
        inputs = draw_inputs(refiner, size=size, t=t)
        expected, logits = refiner(*inputs), packed(*inputs)
        assert logits.shape == expected.shape and logits.dtype == torch.float32
        loudest = max(loudest, float(expected.abs().max()))
        shares.append(float(((logits - expected).abs() > 1e-4).float().mean()))
    assert loudest > 0.5  # it says more than nothing
    assert sorted(shares)[1] < 0.02  # in one draw of a hundred, a sign that rounding turned over reaches many pixels


@torch.no_grad()
def test_half_precision_streams_stay_near(trained_refiner: Build, draw_inputs: Draw) -> None:
    """Signs near their thresholds turn over, so it is another sample of the same accuracy, not the same numbers."""
    refiner = trained_refiner()
    inputs = draw_inputs(refiner)
    packed = refiner.compile_inference(T, torch.float16)
    assert packed.workspace.values.dtype == torch.float16
    expected, logits = refiner(*inputs), packed(*inputs)
    assert packed.workspace.streams[0].dtype == torch.float16 and logits.dtype == torch.float32
    assert torch.corrcoef(torch.stack([expected.flatten(), logits.flatten()]))[0, 1] > 0.6


@torch.no_grad()
def test_chains_share_their_images_condition(trained_refiner: Build, draw_inputs: Draw) -> None:
    """Bit for bit what each chain of each image gives by itself."""
    refiner = trained_refiner(num_targets=2)
    packed = refiner.compile_inference(T, torch.float32)
    image, _, prior, features, _ = draw_inputs(refiner, batch=2, size=(20, 24))
    samples = torch.bernoulli(prior.repeat(3, 1, 1, 1))
    t = torch.full((6,), 5)
    condition = packed.encode_condition(image, prior, features)
    repeated = packed.repeat_condition(condition, 3)
    assert all(a is b for a, b in zip(condition, repeated, strict=True))
    together = packed.denoise(samples, t, prior.repeat(3, 1, 1, 1), repeated)
    trained = refiner.repeat_condition(refiner.encode_condition(image, prior, features), 3)
    expected = refiner.denoise(samples, t, prior.repeat(3, 1, 1, 1), trained)
    assert ((together - expected).abs() > 1e-4).float().mean() < 0.02
    for n in range(6):
        one = slice(n % 2, n % 2 + 1)
        own = [None if entry is None else entry[one] for entry in condition]
        alone = packed.denoise(samples[n : n + 1], t[:1], prior[one], own)
        assert torch.equal(alone[0], together[n])


@torch.no_grad()
def test_memory_is_kept_between_steps_and_images(trained_refiner: Build, draw_inputs: Draw) -> None:
    refiner = trained_refiner()
    packed = refiner.compile_inference(T, torch.float32)

    def places() -> list[int]:
        workspace = packed.workspace
        maps = [workspace.words, workspace.values, workspace.reals, *workspace.packed_maps, *workspace.streams]
        return [tensor.data_ptr() for tensor in maps]

    large, small = draw_inputs(refiner, size=(40, 32)), draw_inputs(refiner, batch=1, size=(17, 30))
    first = packed(*large)
    at, held = places(), packed.workspace.count_bytes()
    assert torch.equal(packed(*large), first) and places() == at
    other = packed(*small)
    assert places()[:3] == at[:3] and packed.workspace.count_bytes() == held  # no larger than before
    assert torch.equal(other, refiner.compile_inference(T, torch.float32)(*small))  # no trace of the larger one
    assert torch.equal(packed(*large), first)
    packed.workspace.release()
    assert packed.workspace.count_bytes() == 0
    assert torch.equal(packed(*small), other) and 0 < packed.workspace.count_bytes() < held


def test_inference_mode_and_gradients_outside_of_it(trained_refiner: Build, draw_inputs: Draw) -> None:
    refiner = trained_refiner()
    packed, inputs = refiner.compile_inference(T, torch.float32), draw_inputs(refiner)
    with torch.inference_mode():
        expected = packed(*inputs)
    inputs.prior.requires_grad_()
    result = packed(*inputs)
    assert torch.equal(result, expected) and not result.requires_grad
    with torch.inference_mode():
        assert torch.equal(packed(*inputs), expected)


@torch.no_grad()
def test_scripted_and_saved_it_gives_the_same_bits(trained_refiner: Build, draw_inputs: Draw) -> None:
    refiner = trained_refiner(num_targets=2)
    packed = refiner.compile_inference(T, torch.float32)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(packed), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    for size in ((24, 40), (9, 13), (24, 40)):
        inputs = draw_inputs(refiner, size=size)
        for _ in range(3):
            assert torch.equal(scripted(*inputs), packed(*inputs))


@torch.no_grad()
def test_the_state_dict_is_all_there_is(trained_refiner: Build, draw_inputs: Draw) -> None:
    refiner = trained_refiner()
    packed, inputs = refiner.compile_inference(T, torch.float32), draw_inputs(refiner)
    assert list(packed.parameters()) == []
    expected = packed(*inputs)
    empty = PackedRefiner(3, 1, (3, 4, 5), (1, 4, 8), (8, 8, 16, 48), 2, T, torch.float32)
    empty.load_state_dict(packed.state_dict())
    assert torch.equal(empty(*inputs), expected)
    torch.nn.init.zeros_(refiner.correction.weight)  # what happens to the trained one later is its own business
    assert torch.equal(packed(*inputs), expected)


@pytest.mark.parametrize("form", ["packed", "folded"])
@torch.no_grad()
def test_an_empty_batch_gives_an_empty_mask(form: str) -> None:
    segmentor = UNetSegmentor(1, 1, (4, 4, 8))
    refiner = DiffusionRefiner(1, 1, segmentor.feature_channels, segmentor.feature_strides, (8, 8, 16), 8, 2)
    network = HiDiff(segmentor, refiner, BernoulliScheduler(T), sampler="hard").eval()
    fast = network.compile_inference() if form == "packed" else network.with_refiner(FoldedRefiner(refiner, T))
    for network in (fast, torch.jit.script(fast)):
        assert network(torch.rand(0, 1, 32, 32)).shape == (0, 1, 32, 32)


def test_what_cannot_be_packed_or_run_is_explained(trained_refiner: Build, draw_inputs: Draw) -> None:
    refiner = trained_refiner()
    with pytest.raises(ValueError, match="real-valued; expected binarized=True"):
        trained_refiner(binarized=False).compile_inference(T)
    with pytest.raises(ValueError, match=r"storage is torch.bfloat16.*expected torch.float16 or torch.float32"):
        refiner.compile_inference(T, torch.bfloat16)
    packed = refiner.compile_inference(T)
    image, sample, prior, features, t = draw_inputs(refiner)
    for wrong in (torch.tensor([3, 4]), torch.full((2,), 10), torch.full((2,), -1)):
        with pytest.raises(ValueError, match=r"expected one t for the whole batch, in \[0, 10\)"):
            packed(image, sample, prior, features, wrong)
    with pytest.raises(ValueError, match="gave 2 feature maps; expected 3"):
        packed(image, sample, prior, features[:2], t)
    with pytest.raises(ValueError, match="stride 1 has 10 rows for an image of 24"):
        packed(image, sample, prior, [features[0][:, :, :10], *features[1:]], t)
    condition = packed.encode_condition(image, prior, features)
    with pytest.raises(ValueError, match="3 chains of 2 images"):
        packed.denoise(sample[[0, 1, 0]], t[[0, 1, 0]], prior, condition)


def joint(num_targets: int, exclusive: bool) -> HiDiff:
    segmentor = UNetSegmentor(3, num_targets, (8, 8, 16, 16))
    strides = segmentor.feature_strides
    refiner = DiffusionRefiner(
        3, num_targets, segmentor.feature_channels, strides, (16, 16, 16, 32), embedding_dim=8, num_heads=2
    )
    return HiDiff(segmentor, refiner, BernoulliScheduler(T), exclusive)


def masks(probability: torch.Tensor) -> torch.Tensor:
    """One-hot over exclusive classes, else thresholded."""
    if probability.shape[1] == 1:
        return probability > 0.5
    return F.one_hot(probability.argmax(1), probability.shape[1]).permute(0, 3, 1, 2) > 0


def agreement(num_targets: int, exclusive: bool, seed: int) -> float:
    """Dice of the masks of every step, trained and compiled form, from the same states."""
    torch.manual_seed(seed)
    network = joint(num_targets, exclusive)
    imitate(network)
    compiled, image = network.compile_inference(torch.float32), draw_image()
    _, prior, features = network.predict_prior(image)
    condition = network.refiner.encode_condition(image, prior, features)
    own = compiled.refiner.encode_condition(image, prior, features)
    states: list[torch.Tensor] = []
    network.reverse(prior, condition, "ddim", T, None, states)
    common = both = changed = 0.0
    for t, state in zip(network.scheduler.inference_timesteps(T), states[::2], strict=True):
        step = torch.full((len(image),), t)
        one, other = (
            masks((state - refiner.denoise(state, step, prior, entries).sigmoid()).abs())
            for refiner, entries in ((network.refiner, condition), (compiled.refiner, own))
        )
        common, both = common + float((one & other).sum()), both + float(one.sum() + other.sum())
        changed += float((one != masks(prior)).float().mean()) / T
    assert changed > 0.01  # the refiner has something to say
    return 2 * common / both


@pytest.mark.parametrize(("num_targets", "exclusive"), [(1, False), (4, True)])
@torch.no_grad()
def test_masks_of_every_step_are_the_trained_ones(num_targets: int, exclusive: bool) -> None:
    """Of an imitated training, one sign that turned over by rounding may change much: in one network of three."""
    worst, *others = sorted(agreement(num_targets, exclusive, seed) for seed in range(3))
    assert worst >= 0.95 and min(others) >= 0.999


@pytest.mark.parametrize(("num_targets", "exclusive"), [(1, False), (4, True)])
@pytest.mark.parametrize("sampler", ["hard", "ddim", "ddpm"])
@torch.no_grad()
def test_a_whole_network_compiled_and_scripted(num_targets: int, exclusive: bool, sampler: str) -> None:
    network = joint(num_targets, exclusive)
    network.num_inference_steps, network.num_samples, network.sampler = 3, 2, sampler
    imitate(network)
    compiled, image = network.compile_inference(torch.float32), draw_image()
    assert compiled.segmentor is network.segmentor and isinstance(compiled.refiner, PackedRefiner)
    assert not compiled.training and compiled.exclusive == exclusive and compiled.sampler == sampler
    assert (compiled.num_inference_steps, compiled.num_samples) == (3, 2)
    scripted = torch.jit.script(compiled)
    results = []
    for one in (network, compiled, scripted):
        torch.manual_seed(1)
        results.append(one(image))
    assert torch.equal(results[1], results[2])
    assert (masks(results[0]) == masks(results[1])).float().mean() > 0.75


def draw_image() -> torch.Tensor:
    """Blobs, (2, 3, 51, 62)."""
    return F.interpolate(torch.rand(2, 3, 10, 12), size=(51, 62), mode="bilinear")


def imitate(network: HiDiff) -> None:
    """A trained refiner: corrections of the order of the prior's logit, statistics of what it sees."""
    network.train()
    nn.init.normal_(network.segmentor.head.weight)
    nn.init.normal_(network.refiner.correction.weight, std=0.2)
    for layer in network.refiner.modules():
        if isinstance(layer, nn.Linear) and layer.weight.count_nonzero() == 0:
            nn.init.normal_(layer.weight, std=0.1)
    for _ in range(5):
        image = draw_image()
        _, prior, features = network.predict_prior(image)
        for t in (0, 9):
            network.refiner(image, torch.bernoulli(prior), prior, features, torch.full((2,), t))
    network.eval()


def test_a_network_is_compiled_once() -> None:
    compiled = joint(1, False).compile_inference()
    with pytest.raises(ValueError, match="is a PackedRefiner; expected the trained DiffusionRefiner"):
        compiled.compile_inference()
