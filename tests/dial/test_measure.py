"""Which passes are timed, and what a row tells, by a made-up clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hidiff_monai.dial import measure as measure_module
from hidiff_monai.dial.measure import measure_setting
from hidiff_monai.dial.subject import Case
from hidiff_monai.prediction.sampler import SamplerSetting

DICE = {"a": 0.9, "b": 0.8, "c": 0.4, "d": 0.7}
SHAPES = {"a": (1, 8, 8, 2), "b": (1, 8, 8, 2), "c": (1, 8, 8, 3), "d": (1, 8, 8, 2)}


@pytest.mark.parametrize(
    ("device", "passes"),
    [("cpu", "aa b c d"), ("cuda", "aaa b ccc d"), ("mps", "aaa b ccc d")],  # the last of each counts
)
def test_what_is_new_to_the_device_is_run_untimed_before(
    monkeypatch: pytest.MonkeyPatch, device: str, passes: str
) -> None:
    ran: list[str] = []

    def infer(_: Any, __: Any, batch: torch.Tensor, ___: Any, name: str) -> tuple[dict[str, Any], float]:
        ran.append(name)
        assert batch.shape == (1, *SHAPES[name])
        return {}, float(len(ran))

    monkeypatch.setattr(measure_module, "infer_in_memory", infer)
    subject: Any = SimpleNamespace(
        device=torch.device(device),
        network=None,
        inferer_for=lambda setting: None,
        cases=lambda: (Case(name, torch.zeros(shape), torch.zeros(shape)) for name, shape in SHAPES.items()),
        score=lambda maps, case: DICE[case.name],
    )
    ended: list[int] = []
    row = measure_setting(subject, SamplerSetting("hard", 2), lambda: ended.append(len(ran)))
    assert "".join(ran) == passes.replace(" ", "")
    assert ended == [len(passes[: end + 1].replace(" ", "")) for end in (passes.rindex(name) for name in DICE)]
    assert (row["seconds_least"], row["seconds_most"]) == (ended[0], ended[-1])  # no untimed pass among them
    assert row["seconds_median"] == (ended[1] + ended[2]) / 2
    assert row["dice_cases"] == DICE and row["n"] == 4 and row["dice_mean"] == pytest.approx(0.7)
