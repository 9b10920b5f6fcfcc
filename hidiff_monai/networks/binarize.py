"""Binary weights and activations with straight-through gradients (HiDiff, Sec. II-B.2; Rastegari et al., XNOR-Net).

Written as sums with ``detach`` rather than as ``autograd.Function``, which can be neither scripted nor traced.
"""

import torch
from torch import nn
from torch.nn import functional as F


def sign_ste(x: torch.Tensor) -> torch.Tensor:
    """Sign of Eq. 15, never 0: +1 where x > 0, else -1.

    Backward, the gradient of the piecewise quadratic p(x): 2 + 2x on [-1, 0), 2 - 2x on [0, 1], 0 elsewhere (Liu et
    al., Bi-Real Net). It is written as p'(x) (x - x.detach()), whose value is 0 and whose derivative is p'(x): the
    backward pass is then a single product.

    Args:
        x: any shape, finite; for an activation u with threshold alpha, x = u - alpha.
    """
    value = x.detach()
    sign = F.threshold(value, 0.0, -1.0).sgn_()
    slope = torch.rsub(value.abs(), 2.0, alpha=2.0).clamp_(min=0.0)  # 2 - 2|x|
    return torch.addcmul(sign, slope, x - value)


def binary_weight(weight: torch.Tensor) -> torch.Tensor:
    """W^b = mean|W| sign(W), the mean taken per output channel (first axis), sign(0) = +1 (XNOR-Net, Eq. 6).

    Backward, the gradient of W clipped to [-1, 1].
    """
    value = weight.detach()
    size = value.abs()
    scale = size.flatten(1).mean(1).reshape([-1] + [1] * (weight.dim() - 1))
    binary = F.threshold(-value, 0.0, -1.0).sgn_() * -scale
    return torch.addcmul(binary, (size <= 1).to(weight.dtype), weight - value)


class BinaryConv2d(nn.Module):
    """2-D convolution with weights mean|W| sign(W) and no bias; its input is expected to be binarized already.

    Zero padding contributes nothing. The real-valued weights are kept for training.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: edge of the square kernel.
        stride: step of the kernel.
        padding: zeros added on every side.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) in {-1, +1} -> (B, out_channels, H', W')."""
        return F.conv2d(x, binary_weight(self.weight), stride=self.stride, padding=self.padding)


class BinaryLinear(nn.Module):
    """Linear layer with weights mean|W| sign(W) and no bias; its input is expected to be binarized already.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) in {-1, +1} -> (..., out_features)."""
        return F.linear(x, binary_weight(self.weight))
