"""Any network becomes a segmentor: its features by name, its gradients, its copies and its export."""

import copy
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import SegmentorAdapter, SegmentorOutput

LAYERS = ["levels.4", "levels.1", "levels.2", "levels.3"]  # strides 32, 4, 8, 16


class Encoder(nn.Module):
    """Strided convolutions at strides 2 ... 32; ``returns`` shapes the answer, ``head`` sits at stride 2."""

    def __init__(self, returns: Any = lambda logits: logits, num_targets: int = 1) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 3, 2, 1) for i in range(5))
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, num_targets, 1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.flat = nn.Flatten(2)
        self.shared = nn.ReLU()
        self.returns = returns

    def forward(self, image: torch.Tensor) -> Any:
        x = first = self.shared(self.norm(self.levels[0](image)))
        for level in self.levels[1:]:
            x = self.shared(level(x))
        self.flat(x)
        logits = self.head(first + F.interpolate(x, size=first.shape[2:]))
        return self.returns(logits)


def hidiff(adapter: SegmentorAdapter) -> HiDiff:
    channels = (4, 4, 4, 4, 8, 8)
    refiner = DiffusionRefiner(
        3, 1, adapter.feature_channels, adapter.feature_strides, channels, embedding_dim=8, num_heads=2
    )
    nn.init.normal_(refiner.correction.weight)
    return HiDiff(adapter, refiner, BernoulliScheduler(10), num_inference_steps=2).eval()


def test_features_are_the_layers_outputs_finest_first() -> None:
    network = Encoder().eval()
    adapter = SegmentorAdapter(network, LAYERS)
    assert adapter.feature_layers == ["levels.1", "levels.2", "levels.3", "levels.4"]
    assert (adapter.feature_channels, adapter.feature_strides) == ([4, 4, 4, 4], [4, 8, 16, 32])
    image = torch.rand(2, 3, 64, 96)
    output = adapter.eval()(image)
    assert isinstance(output, SegmentorOutput)
    x = network.levels[1](network.norm(network.levels[0](image)).relu())
    for i in range(4):
        torch.testing.assert_close(output.features[i], x)
        x = network.levels[i + 2](x.relu()) if i < 3 else x
    expected = F.interpolate(network(image), scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(output.logits, expected)


def test_odd_sizes_are_padded_and_cropped() -> None:
    adapter = SegmentorAdapter(Encoder(), LAYERS).eval()
    image = torch.rand(1, 3, 50, 33)
    output, reference = adapter(image), adapter(F.pad(image, (0, 31, 0, 14), mode="replicate"))
    assert torch.equal(output.logits, reference.logits[:, :, :50, :33])
    assert torch.equal(output.features[0], reference.features[0])


def test_dry_run_leaves_the_network_as_it_was() -> None:
    network = Encoder().train()
    network.levels[2].eval()
    before = copy.deepcopy(network.state_dict())
    SegmentorAdapter(network, LAYERS)
    assert network.training and not network.levels[2].training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("returns", "output"),
    [
        (lambda x: {"aux": x[:, :, :1], "out": x}, "out"),
        (lambda x: (x, x[0]), 0),
        (lambda x: [x[0], x], 1),
    ],
)
def test_logits_are_picked_by_key_or_index(returns: Any, output: Any) -> None:
    adapter = SegmentorAdapter(Encoder(returns), LAYERS, output=output)
    assert adapter(torch.rand(1, 3, 40, 40)).logits.shape == (1, 1, 40, 40)


@pytest.mark.parametrize(
    ("returns", "output", "message"),
    [
        (lambda x: {"out": x}, None, r"a dict with keys \['out'\].*set 'output' to one of \['out'\]"),
        (lambda x: (x, x), 2, r"output is 2, .*a tuple of length 2.*one of \[0, 1\]"),
        (lambda x: {"out": x}, "mask", r"output is 'mask'.*one of \['out'\]"),
        (lambda x: x.mean(), None, r"a tensor of shape \(\).*expected logits"),
        (lambda x: None, None, "a NoneType; expected logits.*wrap the network"),
    ],
)
def test_wrong_outputs_are_explained(returns: Any, output: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentorAdapter(Encoder(returns), LAYERS, output=output)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["level.4"], r"\['level.4'\]; expected layers of Encoder. Near matches: .*'levels.4'.*Its layers: levels, "),
        ([], "names nothing"),
        (["unused"], "'unused' did not run"),
        (["shared"], "'shared' ran 5 times"),
        (["flat"], r"'flat' gave a tensor of shape \(1, 4, 4\); expected one tensor"),
        (["levels.0", "norm"], r"strides \[2, 2\]; expected another stride each"),
    ],
)
def test_wrong_layers_are_explained(layers: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentorAdapter(Encoder(), layers)


def test_example_size_that_does_not_fit_is_explained() -> None:
    with pytest.raises(ValueError, match="make example_size a multiple"):
        SegmentorAdapter(Encoder(), LAYERS, example_size=(50, 50))


def test_gradients_flow_and_a_copy_taps_its_own_layers() -> None:
    adapter = SegmentorAdapter(Encoder(), LAYERS)
    twin = copy.deepcopy(adapter)
    logits, features = adapter(torch.rand(2, 3, 64, 64))
    (logits.mean() + sum(feature.square().mean() for feature in features)).backward()
    for name, parameter in adapter.named_parameters():
        assert (parameter.grad is None) == ("unused" in name), name
    assert all(parameter.grad is None for parameter in twin.parameters())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    image = torch.rand(1, 3, 64, 64)
    assert all((feature == 0).all() for feature in twin(image).features)
    assert all((feature != 0).any() for feature in adapter(image).features)


def test_threads_do_not_mix() -> None:
    adapter = SegmentorAdapter(Encoder(), LAYERS).eval()
    images = [torch.rand(1, 3, 64, 64) for _ in range(4)]
    expected = [adapter(image) for image in images]
    wrong: list[int] = []

    def run(i: int) -> None:
        for _ in range(10):
            features = adapter(images[i]).features
            if not all(torch.equal(a, b) for a, b in zip(features, expected[i].features, strict=True)):
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@torch.no_grad()
def test_joint_module_scripts_saves_loads_and_equals_eager(tmp_path: Path) -> None:
    network = hidiff(SegmentorAdapter(Encoder(), LAYERS))
    torch.jit.save(torch.jit.script(copy.deepcopy(network)), tmp_path / "model.ts")
    loaded = torch.jit.load(tmp_path / "model.ts")
    for shape in [(1, 3, 64, 64), (2, 3, 70, 33)]:  # the traced size, and another
        image = torch.rand(shape)
        torch.testing.assert_close(loaded(image), network(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_export_keeps_the_structure_and_the_original_keeps_its_hooks() -> None:
    adapter = SegmentorAdapter(Encoder(), LAYERS).eval()
    exported = adapter.for_export(torch.rand(1, 3, 50, 50))
    image = torch.rand(2, 3, 45, 64)
    logits, features = torch.jit.script(exported)(image)
    torch.testing.assert_close(logits, adapter(image).logits)
    assert all(torch.equal(a, b) for a, b in zip(features, adapter(image).features, strict=True))
    assert exported.for_export() is exported and not isinstance(adapter.tapped, torch.jit.ScriptModule)
