"""A folded layer, executed densely by torch's own convolution: few passes over a map, and exact sums where binarized.

Both layers know the shift zeta of their input as a table instead of adding it to the map: ``absorb``.
"""

from typing import Optional, Union

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.folding import FoldedLayer

SMALLEST_SCALE = 1e-12  # a channel of scale 0 still carries its bias, which is kept in units of the scale
EXACT_UP_TO = {torch.float32: 2**24, torch.float16: 2**11, torch.bfloat16: 2**8}


def absorb(layer: FoldedLayer, inputs: torch.Tensor, shortcut: Optional[torch.Tensor] = None) -> FoldedLayer:
    """The layer for an input, and a shortcut, that still lack a shift of their channels.

    x + inputs[t] > threshold[t] is x > threshold[t] - inputs[t], and the shortcut's shift goes into the bias.

    Args:
        layer: as `fold_block` or `fold_tokens` gave it.
        inputs: (T, C); of a real-valued layer 0, since zero padding is 0 only after the shift.
        shortcut: (T, O); None where the shortcut lacks nothing.
    """
    threshold = layer.threshold if layer.threshold is None else layer.threshold - inputs
    bias = layer.bias if shortcut is None else layer.bias + shortcut
    return layer._replace(threshold=threshold, bias=bias)


def dense_layer(
    layer: FoldedLayer, dtype: torch.dtype = torch.float32, stride: int = 1, upsamples: bool = False
) -> "DenseLayer":
    """A `BinaryLayer` or a `RealLayer`; ``dtype`` is that of the binary convolution."""
    if layer.threshold is None:
        return RealLayer(layer, stride, upsamples)
    return BinaryLayer(layer, dtype, stride, upsamples)


class BinaryLayer(nn.Module):
    """activate(scale (weight * sign(x - threshold[t])) + bias[t] + shortcut), TA's last shift left to ``remainder``.

    Signs are kept as +-1/2 and weights as +-2: one comparison and one subtraction make a sign, and every product is
    +-1. So the sums are integers, and exact in float32, in TF32 (which rounds the factors only), and in half precision
    as far as `EXACT_UP_TO`, since products are accumulated in float32. Scale and bias are float32 and come after.

    Args:
        layer: the folded layer, with a threshold.
        dtype: float32, bfloat16 or float16: of signs, weights and sums.
        stride: of the convolution.
        upsamples: True where x and the shortcut have half the resolution: nearest x2.
    """

    weight: torch.Tensor
    threshold: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor
    slope: Optional[torch.Tensor]
    remainder: torch.Tensor

    def __init__(self, layer: FoldedLayer, dtype: torch.dtype, stride: int, upsamples: bool) -> None:
        super().__init__()
        assert layer.threshold is not None
        self.stride, self.upsamples = stride, upsamples
        self.padding = layer.weight.shape[2] // 2
        self.is_exact = dtype == torch.float32  # then the convolution adds the bias, which half precision would round
        scale = torch.where(layer.scale < 0, -1.0, 1.0) * layer.scale.abs().clamp(min=SMALLEST_SCALE)
        _keep(self, "weight", (2 * layer.weight).to(dtype, memory_format=torch.channels_last))
        _keep(self, "threshold", layer.threshold[:, :, None, None])
        _keep(self, "scale", scale[None, :, None, None])
        _keep(self, "bias", layer.bias / scale)
        _keep(self, "slope", layer.slope)
        _keep(self, "remainder", (torch.zeros_like(layer.bias) if layer.zeta is None else layer.zeta)[:, :, None, None])

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        shortcut: Optional[torch.Tensor] = None,
        extra: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """x (N B, C, H, W), t (1,), shortcut (N B, O, H', W'), extra (B, E, H, W) -> (N B, O, H', W') float32."""
        bias = self.bias.index_select(0, t)
        signs = self.signs(x, self.threshold.index_select(0, t), extra)
        if self.is_exact:
            y = F.conv2d(signs, self.weight, bias[0], self.stride, self.padding)
        else:
            y = F.conv2d(signs, self.weight, None, self.stride, self.padding) + bias[:, :, None, None]
        if shortcut is None:
            y.mul_(self.scale)
        elif self.upsamples:
            grid = by_pairs(y)
            scale_and_add(grid, self.scale[..., None, None], shortcut[:, :, :, None, :, None])
        else:
            scale_and_add(y, self.scale, shortcut)
        slope = self.slope
        return y if slope is None else F.prelu(y, slope)

    def signs(self, x: torch.Tensor, threshold: torch.Tensor, extra: Optional[torch.Tensor]) -> torch.Tensor:
        """+1/2 where the input is above its threshold, else -1/2: (B, C [+ E], H, W), channels last."""
        signs = canvas(x, extra, self.upsamples, self.weight.dtype)
        channels = x.shape[1]
        if self.upsamples:
            positive = x > threshold[:, :channels]
            by_pairs(signs[:, :channels]).copy_(positive[:, :, :, None, :, None])
        else:
            write_positive(x, threshold[:, :channels], signs[:, :channels])
        if extra is not None:
            by_image(signs[:, channels:], extra).copy_(extra > threshold[:, channels:])
        return signs.sub_(0.5)


class RealLayer(nn.Module):
    """activate(weight * x + bias[t] + shortcut) with the scale in the weights; it leaves no ``remainder``.

    Args:
        layer: the folded layer, without a threshold.
        stride: of the convolution.
        upsamples: True where x and the shortcut have half the resolution: nearest x2.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    slope: Optional[torch.Tensor]
    zeta: Optional[torch.Tensor]
    remainder: torch.Tensor

    def __init__(self, layer: FoldedLayer, stride: int, upsamples: bool) -> None:
        super().__init__()
        self.stride, self.upsamples = stride, upsamples
        self.padding = layer.weight.shape[2] // 2
        weight = layer.weight * layer.scale[:, None, None, None]
        _keep(self, "weight", weight.contiguous(memory_format=torch.channels_last))
        _keep(self, "bias", layer.bias)
        _keep(self, "slope", layer.slope)
        _keep(self, "zeta", None if layer.zeta is None else layer.zeta[:, :, None, None])
        _keep(self, "remainder", torch.zeros_like(layer.bias)[:, :, None, None])

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        shortcut: Optional[torch.Tensor] = None,
        extra: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """x (N B, C, H, W), t (1,), shortcut (N B, O, H', W'), extra (B, E, H, W) -> (N B, O, H', W')."""
        y = F.conv2d(self.join(x, extra), self.weight, self.bias.index_select(0, t)[0], self.stride, self.padding)
        if shortcut is not None:
            if self.upsamples:
                by_pairs(y).add_(shortcut[:, :, :, None, :, None])
            else:
                y.add_(shortcut)
        slope, zeta = self.slope, self.zeta
        if slope is not None:
            y = F.prelu(y, slope)
        return y if zeta is None else y.add_(zeta.index_select(0, t))

    def join(self, x: torch.Tensor, extra: Optional[torch.Tensor]) -> torch.Tensor:
        """What is convolved: x, or x [enlarged] beside extra."""
        if extra is None:
            return x
        joined = canvas(x, extra, self.upsamples, x.dtype)
        channels = x.shape[1]
        if self.upsamples:
            by_pairs(joined[:, :channels]).copy_(x[:, :, :, None, :, None])
        else:
            joined[:, :channels] = x
        by_image(joined[:, channels:], extra).copy_(extra)
        return joined


DenseLayer = Union[BinaryLayer, RealLayer]


def scale_and_add(y: torch.Tensor, scale: torch.Tensor, shortcut: torch.Tensor) -> None:
    """y <- scale y + shortcut in one pass, in memory that the cache and the page tables know."""
    if not torch.jit.is_scripting() and torch.compiler.is_compiling():
        y.mul_(scale).add_(shortcut)  # the compiler fuses by itself, and stops at an ``out`` in channels last
        return
    torch.addcmul(shortcut, y, scale, out=y)


def write_positive(x: torch.Tensor, threshold: torch.Tensor, signs: torch.Tensor) -> None:
    """signs <- 1 where x > threshold, else 0, in one pass."""
    if not torch.jit.is_scripting() and torch.compiler.is_compiling():
        signs.copy_(x > threshold)
        return
    torch.gt(x, threshold, out=signs)


def canvas(x: torch.Tensor, extra: Optional[torch.Tensor], upsamples: bool, dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised map for the channels of x and extra, channels last, of twice the size where x is enlarged."""
    factor = 2 if upsamples else 1
    channels = x.shape[1] if extra is None else x.shape[1] + extra.shape[1]
    size = [x.shape[0], channels, x.shape[2] * factor, x.shape[3] * factor]
    return torch.empty(size, dtype=dtype, device=x.device, memory_format=torch.channels_last)


def by_pairs(x: torch.Tensor) -> torch.Tensor:
    """A view (B, C, 2h, 2w) -> (B, C, h, 2, w, 2), beside which a map of half the size broadcasts as nearest x2."""
    return x.unflatten(2, [x.shape[2] // 2, 2]).unflatten(4, [x.shape[3] // 2, 2])


def by_image(x: torch.Tensor, entry: torch.Tensor) -> torch.Tensor:
    """A view (N B, C, H, W) -> (N, B, C, H, W) of the chains, beside which an entry of B images broadcasts."""
    return x.unflatten(0, [x.shape[0] // entry.shape[0], entry.shape[0]])


def _keep(module: nn.Module, name: str, values: Optional[torch.Tensor]) -> None:
    """A buffer of its own memory, which no later training of the refiner changes."""
    module.register_buffer(name, None if values is None else values.detach().clone())
