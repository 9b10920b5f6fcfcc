"""The exported loop: equal to eager, settable, and runnable where hidiff_monai does not exist."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

RUN = """
import sys
class Block:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("hidiff_monai", "monai"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import torch
network = torch.jit.load("model.ts")
torch.save([network(image) for image in torch.load("images.pt")], "refined.pt")
assert not any(name.startswith(("hidiff_monai", "monai")) for name in sys.modules)
"""


@pytest.fixture(scope="module", params=[True, False], ids=["binarized", "real"])
def network(request: pytest.FixtureRequest) -> HiDiff:
    torch.manual_seed(0)
    segmentor = UNetSegmentor(3, 2, (2, 2, 4, 4, 6, 8))
    refiner = DiffusionRefiner(
        3, 2, segmentor.feature_channels, channels=(4, 4, 4, 4, 8, 8), embedding_dim=8, num_heads=2,
        binarized=request.param,
    )  # fmt: skip
    nn.init.normal_(refiner.correction.weight)
    return HiDiff(segmentor, refiner, BernoulliScheduler(10), exclusive=True, num_inference_steps=3).eval()


@pytest.fixture(scope="module")
def model_file(network: HiDiff, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.ts"
    torch.jit.save(torch.jit.script(network), path)
    return path


@torch.no_grad()
def test_loaded_equals_eager_at_other_sizes_batches_and_settings(network: HiDiff, model_file: Path) -> None:
    loaded = torch.jit.load(model_file)
    images = [torch.rand(1, 3, 32, 64), torch.rand(2, 3, 45, 33)]
    for image in images:
        torch.testing.assert_close(loaded(image), network(image), rtol=0, atol=1e-5)
    loaded.num_inference_steps = 2
    three_steps = network(images[1])
    network.num_inference_steps = 2
    two_steps = network(images[1])
    network.num_inference_steps = 3
    torch.testing.assert_close(loaded(images[1]), two_steps, rtol=0, atol=1e-5)
    assert (two_steps - three_steps).abs().max() > 1e-4
    loaded.sampler, loaded.num_samples = "ddim", 1
    one = loaded(images[0])
    assert not torch.equal(one, loaded(images[0]))  # it draws now
    loaded.num_samples = 8
    spread = torch.stack([loaded(images[0]) for _ in range(3)]).std(0).mean()
    loaded.num_samples = 1
    assert spread < 0.7 * torch.stack([loaded(images[0]) for _ in range(3)]).std(0).mean()


@pytest.mark.parametrize("network", [True], ids=["binarized"], indirect=True)
@torch.no_grad()
def test_runs_in_a_process_without_the_package(network: HiDiff, model_file: Path) -> None:
    images = [torch.rand(1, 3, 32, 32), torch.rand(2, 3, 50, 70)]
    torch.save(images, model_file.parent / "images.pt")
    subprocess.run([sys.executable, "-I", "-c", RUN], cwd=model_file.parent, check=True)
    for refined, image in zip(torch.load(model_file.parent / "refined.pt"), images, strict=True):
        torch.testing.assert_close(refined, network(image), rtol=0, atol=1e-5)
