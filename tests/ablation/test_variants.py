"""Every variant changes what it says in the bundles' configurations, and can take a step there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from hidiff_monai.ablation.variants import VARIANTS, Sampling, Variant

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = sorted(folder.name for folder in BUNDLES.iterdir() if (folder / "configs").is_dir())
TINY = {"segmentor#channels": [8, 8, 8, 8, 16, 16], "refiner#channels": [8, 8, 8, 8, 16, 16], "device": "cpu"}


def configured(bundle: str, variant: Variant) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
    parser.update({**TINY, **variant.configuration()})
    return parser


@pytest.mark.parametrize("bundle", NAMES)
def test_every_key_means_something_in_every_bundle(bundle: str) -> None:
    train = ConfigParser()
    train.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
    for variant in VARIANTS:
        for key in variant.configuration():
            section, *rest = key.split("#")
            assert section in train.config, key
            if rest[0] == "trainer":
                assert rest[1] in train.get("train#trainer"), key
    evaluation = ConfigParser.load_config_file(BUNDLES / bundle / "configs" / "evaluate.json")
    assert Sampling("ddim", 5, 4).settings().keys() <= evaluation.keys()
    assert {"section", "evaluation_dir", "manifest", "report"} <= evaluation.keys()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("bundle", ["drive", "acdc"])
def test_every_variant_learns_from_a_step(bundle: str, variant: Variant) -> None:
    parser = configured(bundle, variant)
    network: Any = parser.get_parsed_content("network")
    loss = parser.get_parsed_content("diffusion_loss")
    assert network.refiner.binarized == variant.is_binarized
    assert any("into_prior" in name for name, _ in network.refiner.named_modules()) == variant.has_xformer
    num_targets = network.refiner.num_targets
    image = torch.rand(2, network.refiner.image_channels, 64, 64)
    label = torch.zeros(2, num_targets, 64, 64)
    label[:, 0] = 1
    optimizer = torch.optim.AdamW(network.refiner.parameters(), lr=0.002)
    losses = []
    with torch.no_grad():
        _, prior, features = network.predict_prior(image)
        t = torch.full((2,), network.scheduler.num_train_timesteps - 1)
        sample = network.start(prior, "hard")
    for _ in range(3):
        value = loss(network.refiner(image, sample, prior, features, t), sample, label, prior, t)
        losses.append(float(value))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    network.num_inference_steps = network.scheduler.num_train_timesteps
    with torch.no_grad():
        mask = network.eval()(image)
    assert mask.shape == label.shape and float(mask.min()) >= 0 and float(mask.max()) <= 1


def test_samplings_are_told_apart() -> None:
    for variant in VARIANTS:
        names = [sampling.name for sampling in variant.samplings]
        assert len(set(names)) == len(names)
    assert Sampling("ddim", 10, 16).title == "DDIM, 10 steps, mean of 16"
    assert Sampling("hard", 1).title == "hard decisions, 1 step"
    assert Sampling().settings() == {"num_samples": 1}
