"""What a setting costs, says of itself, and does to an inferer: counted on a refiner that counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hidiff_monai.inferers import BernoulliDiffusionInferer
from hidiff_monai.networks import HiDiff
from hidiff_monai.prediction.sampler import SamplerSetting


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (SamplerSetting("hard", 3), 3),
        (SamplerSetting("hard", 2, 4), 10),
        (SamplerSetting("ddim", 5, 1), 5),
        (SamplerSetting("ddim", 2, 3), 6),
        (SamplerSetting("ddpm", 4, 2), 8),
    ],
)
def test_chain_steps_are_the_passes_of_the_refiner(
    make_network: Callable[..., HiDiff], monkeypatch: pytest.MonkeyPatch, setting: SamplerSetting, expected: int
) -> None:
    network, passes = make_network().eval(), []
    denoise = network.refiner.denoise
    monkeypatch.setattr(network.refiner, "denoise", lambda y, *rest: (passes.append(len(y)), denoise(y, *rest))[1])
    inferer = BernoulliDiffusionInferer(outputs=("refined", "prior", "entropy"))
    setting.apply(inferer)
    inferer(torch.rand(1, 1, 16, 16), network)
    assert sum(passes) == setting.chain_steps == expected


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (SamplerSetting("prior", 0), "prior alone"),
        (SamplerSetting("hard", 1), "1 step, hard"),
        (SamplerSetting("hard", 2, 4), "2 steps, hard, and 4 chains for the uncertainty"),
        (SamplerSetting("ddim", 10, 1), "1 chain of 10 steps, DDIM"),
        (SamplerSetting("ddim", 1, 16), "mean of 16 chains of 1 step, DDIM"),
    ],
)
def test_a_setting_in_words(setting: SamplerSetting, text: str) -> None:
    assert setting.describe() == text
    assert SamplerSetting.from_dict({**setting._asdict(), "dice_mean": 0.5}) == setting
