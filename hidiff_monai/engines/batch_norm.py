"""BatchNorm whose statistics are those of the joint mini-batch of several processes."""

from __future__ import annotations

import torch
from torch import nn

from hidiff_monai.losses.joint import sum_over_processes


def synchronise_batch_norm(network: nn.Module) -> nn.Module:
    """Exchanges every BatchNorm of ``network`` for torch's ``SyncBatchNorm``; names and values in the state dict stay.

    Torch's own refuses tensors of a CPU: there `JointBatchNorm` takes its place.
    """
    is_on_gpu = any(value.is_cuda for value in network.state_dict().values())
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.SyncBatchNorm) and not is_on_gpu:
            module.__class__ = JointBatchNorm
    return network


class JointBatchNorm(nn.SyncBatchNorm):
    """Torch's ``SyncBatchNorm`` for a CPU: two sums over the processes in the forward pass, two in the backward."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises (B, C, ...) by the statistics of all processes' mini-batches, or in evaluation by the running."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        values = input.to(torch.promote_types(input.dtype, torch.float32))  # sums in half precision lose too much
        size = values.new_tensor([values.numel() / values.shape[1]])
        *sums, number = sum_over_processes(torch.cat([values.sum(axes), size])).split([self.num_features, 1])
        mean = sums[0] / number
        centred = values - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(axes)) / number
        self._remember(mean.detach(), (variance * number / (number - 1)).detach())
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
