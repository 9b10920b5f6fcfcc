"""BatchNorm over processes, in one: torch's own is the oracle. Two of them: test_distributed.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hidiff_monai.engines.batch_norm import JointBatchNorm, synchronise_batch_norm
from hidiff_monai.networks.time_modules import ChannelNorm

NORMS = {
    "maps": (nn.BatchNorm2d(5), (3, 5, 4, 6)),
    "tokens": (nn.BatchNorm1d(5), (12, 5)),
    "cumulative": (nn.BatchNorm2d(5, momentum=None), (2, 5, 3, 3)),
    "without weights": (ChannelNorm(5, affine=False), (2, 5, 7)),
    "without memory": (nn.BatchNorm2d(5, track_running_stats=False), (2, 5, 3, 3)),
}


@pytest.mark.parametrize("name", NORMS)
def test_values_gradients_and_running_statistics_are_torch_s(name: str) -> None:
    norm, shape = NORMS[name]
    norm = norm.double().train()
    generator = torch.Generator().manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=generator)
    images = [3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    expected = run(norm, images)
    fresh = nn.Sequential(type(norm)(5, momentum=norm.momentum, affine=norm.affine, **memory(norm))).double()
    fresh[0].load_state_dict({**fresh[0].state_dict(), **dict(norm.named_parameters())})
    found = run(synchronise_batch_norm(fresh)[0], images)
    assert isinstance(fresh[0], JointBatchNorm)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def memory(norm: nn.Module) -> dict[str, bool]:
    return {"track_running_stats": bool(norm.track_running_stats)}


def run(norm: nn.Module, images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs and gradients in training, the output in evaluation, and all buffers."""
    results: list[torch.Tensor] = []
    norm.train()
    for image in images:
        inputs = image.clone().requires_grad_()
        output = norm(inputs)
        (output.sin() * torch.arange(output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
        results += [output.detach(), inputs.grad]  # type: ignore[list-item]
    results += [parameter.grad for parameter in norm.parameters()]  # type: ignore[misc]
    return [*results, *(buffer.double() for buffer in norm.buffers()), norm.eval()(images[0]).detach()]


def test_half_precision_is_summed_in_single() -> None:
    norm = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(1)))
    image = 300 + torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    result = norm(image)
    assert result.dtype == torch.bfloat16 and abs(float(result.detach().float().mean())) < 1e-2


def test_keys_and_the_rest_of_a_network_are_kept() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.InstanceNorm2d(2))
    keys = list(network.state_dict())
    changed = synchronise_batch_norm(network)
    assert list(changed.state_dict()) == keys
    assert [type(module).__name__ for module in changed] == ["Conv2d", "JointBatchNorm", "InstanceNorm2d"]
