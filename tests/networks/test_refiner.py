"""The refiner: starts as the identity on the prior, sees only signs, and learns with every parameter."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks import BinaryConv2d, BinaryLinear, DiffusionRefiner
from hidiff_monai.networks.time_modules import TimeBinarization

both_precisions = pytest.mark.parametrize("binarized", [True, False], ids=["binarized", "real"])


def refiner(binarized: bool = True, image_channels: int = 3, num_targets: int = 1, trained: bool = False):
    module = DiffusionRefiner(
        image_channels, num_targets, (3, 4, 5, 6), channels=(4, 4, 4, 8, 8, 8), embedding_dim=8, num_heads=2,
        binarized=binarized,
    )  # fmt: skip
    if trained:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def inputs(module: DiffusionRefiner, batch: int = 2, height: int = 64, width: int = 32):
    image = torch.rand(batch, module.image_channels, height, width)
    prior = torch.rand(batch, module.num_targets, height, width)
    sample = torch.bernoulli(prior)
    features = [
        torch.randn(batch, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(module.feature_channels, module.feature_strides, strict=True)
    ]
    return image, sample, prior, features, torch.arange(batch) % 10


@both_precisions
@pytest.mark.parametrize(("image_channels", "num_targets"), [(1, 1), (3, 4), (4, 9)])
@torch.no_grad()
def test_untrained_refiner_returns_the_prior_at_every_t_and_state(
    binarized: bool, image_channels: int, num_targets: int
) -> None:
    module = refiner(binarized, image_channels, num_targets)
    image, _, prior, features, _ = inputs(module, height=50, width=33)
    prior[0, :, :10] = 0.0  # saturated priors too
    prior[1, :, :10] = 1.0
    condition = module.encode_condition(image, prior, features)
    for sample in (torch.zeros_like(prior), torch.ones_like(prior), torch.bernoulli(prior)):
        for t in (0, 4, 9):
            noise = module.denoise(sample, torch.full((2,), t), prior, condition).sigmoid()
            torch.testing.assert_close((sample - noise).abs(), prior, rtol=0, atol=1.01e-4)


@both_precisions
@torch.no_grad()
def test_a_correction_moves_the_estimate_alike_in_either_state_of_a_pixel(binarized: bool) -> None:
    """One output means one thing: were it added to the noise logit, its sign would have to follow each pixel's y_t."""
    module = refiner(binarized)
    image, sample, prior, features, t = inputs(module)
    prior = prior.clamp(0.01, 0.99)
    module.correction.bias.fill_(0.7)
    estimate = (sample - module(image, sample, prior, features, t).sigmoid()).abs()
    torch.testing.assert_close(torch.logit(estimate), torch.logit(prior) + 0.7, rtol=0, atol=1e-4)


@torch.no_grad()
def test_untrained_refiner_returns_a_half_precision_prior() -> None:
    """Under autocast the prior is float16, where 1 - 1e-4 rounds to 1: its logit must stay finite all the same."""
    module = refiner()
    image, _, prior, features, t = inputs(module)
    prior, sample = torch.ones_like(prior).half(), torch.zeros_like(prior)
    logits = module(image, sample, prior.float(), features, t)
    condition = module.encode_condition(image, prior.float(), features)
    torch.testing.assert_close(module.denoise(sample, t, prior, condition), logits)
    assert logits.abs().max() < 9.3


@both_precisions
@torch.no_grad()
def test_t_matters_once_trained(binarized: bool) -> None:
    module = refiner(binarized, trained=True)
    image, sample, prior, features, _ = inputs(module)
    condition = module.encode_condition(image, prior, features)
    outputs = [module.denoise(sample, torch.full((2,), t), prior, condition) for t in range(10)]
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(outputs, outputs[1:], strict=False))


@both_precisions
@torch.no_grad()
def test_odd_sizes_equal_the_padded_image(binarized: bool) -> None:
    module = refiner(binarized, trained=True)
    image, sample, prior, features, t = inputs(module, height=50, width=33)
    module.prior_epsilon = 0.0

    def pad(x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, 31, 0, 14), mode="replicate")

    padded = [F.pad(f, (0, 64 // s - f.shape[3], 0, 64 // s - f.shape[2]), mode="replicate")
              for f, s in zip(features, (4, 8, 16, 32), strict=True)]  # fmt: skip
    reference = module(pad(image), pad(sample), pad(prior), padded, t)
    torch.testing.assert_close(module(image, sample, prior, features, t), reference[:, :, :50, :33])


@both_precisions
@torch.no_grad()
def test_one_image_does_not_depend_on_its_batch(binarized: bool) -> None:
    module = refiner(binarized, trained=True)
    image, sample, prior, features, t = inputs(module, batch=3)
    batch = module(image, sample, prior, features, t)
    for i in range(3):
        one = slice(i, i + 1)
        single = module(image[one], sample[one], prior[one], [f[one] for f in features], t[one])
        torch.testing.assert_close(single[0], batch[i], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_binary_layers_see_only_signs() -> None:
    module, seen = refiner(trained=True), []
    layers = [layer for layer in module.modules() if isinstance(layer, (BinaryConv2d, BinaryLinear))]
    for layer in layers:
        layer.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    module(*inputs(module))
    assert len(seen) == len(layers) == 5 * 3 + 2 + 5 * 2 + 2 * 6
    assert all((x.abs() == 1).all() for x in seen)


def test_only_input_and_output_convolutions_stay_real() -> None:
    real = {name.split(".")[0] for name, layer in refiner().named_modules() if isinstance(layer, nn.Conv2d)}
    assert real == {"stem_image", "stem_sample", "projections", "correction"}
    binary_kinds = (BinaryConv2d, BinaryLinear, TimeBinarization)
    assert not any(isinstance(layer, binary_kinds) for layer in refiner(binarized=False).modules())


@both_precisions
def test_gradients_reach_every_parameter_after_one_step(binarized: bool) -> None:
    """One step moves the output convolution off zero, the next thresholds and shifts: then nothing is dead."""
    module = refiner(binarized).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    batch, target = inputs(module, height=96, width=128), torch.rand(2, 1, 96, 128)
    for _ in range(3):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(module(*batch), target).backward()
        optimizer.step()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    dead = [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().max() > 0]
    assert not dead
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@torch.no_grad()
def test_wrong_inputs_are_explained() -> None:
    module = refiner()
    image, sample, prior, features, t = inputs(module)
    with pytest.raises(ValueError, match="gave 3 feature maps; expected 4"):
        module(image, sample, prior, features[:3], t)
    with pytest.raises(ValueError, match="stride 4 has 8 rows for an image of 64"):
        module(image, sample, prior, [features[1], *features[1:]], t)
    with pytest.raises(RuntimeError, match="channels"):
        module(image[:, :2], sample, prior, features, t)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_channels": (3, 4)}, "feature_channels has 2 entries, feature_strides 4"),
        ({"channels": (4,)}, "at least two levels"),
        ({"channels": (4, 4, 4, 4, 4, 4, 4)}, "bottleneck at stride 64, where no feature map enters"),
        ({"num_heads": 3}, "num_heads is 3; expected a divisor"),
        ({"channels": (4, 6, 6, 6, 6, 6)}, "channels go from 4 to 6; expected one a multiple"),
    ],
)
def test_levels_that_do_not_fit_are_explained(change: dict, message: str) -> None:
    arguments = {"feature_channels": (3, 4, 5, 6), "channels": (4,) * 6, "num_heads": 2} | change
    with pytest.raises(ValueError, match=message):
        DiffusionRefiner(3, 1, **arguments)
