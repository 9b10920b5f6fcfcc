"""The Dice loss of a joint mini-batch, in one process: MONAI's is the oracle. Two of them: test_distributed.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.losses import DiceLoss

from hidiff_monai.losses import joint


@pytest.mark.parametrize("options", [{"sigmoid": True}, {"softmax": True}, {}])
def test_the_sum_of_one_process_gives_monai_s_loss(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    values, target = torch.rand(2, 3, 4, 5, generator=generator), torch.rand(2, 3, 4, 5, generator=generator).round()
    expected = DiceLoss(batch=True, **options)(values, target)
    loss = joint.JointDiceLoss(batch=True, **options)
    assert torch.equal(loss(values, target), expected)
    monkeypatch.setattr(joint.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(joint, "sum_over_processes", lambda sums: sums)
    torch.testing.assert_close(loss(values, target), expected)


def test_halves_of_a_mini_batch_give_the_loss_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    values, target = torch.rand(4, 1, 4, 5, generator=generator), torch.rand(4, 1, 4, 5, generator=generator).round()
    first, second = ((values[half], target[half]) for half in (slice(2), slice(2, None)))
    others = torch.stack([(first[0] * first[1]).sum(dim=(0, 2, 3)), (first[0] + first[1]).sum(dim=(0, 2, 3))])
    monkeypatch.setattr(joint.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(joint, "sum_over_processes", lambda sums: sums + others)
    loss = joint.JointDiceLoss(batch=True)(*second)
    torch.testing.assert_close(loss, DiceLoss(batch=True)(values, target))


def test_without_other_processes_sums_are_what_they_are() -> None:
    values = torch.rand(3, requires_grad=True)
    assert joint.sum_over_processes(values) is values
