"""Time-dependent modules: the embedding of t, and the binarization (TB) and activation (TA) it steers."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.binarize import sign_ste


def per_channel(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(B, C) -> (B, C, 1, 1) beside maps (B, C, H, W), or (B, 1, C) beside tokens (B, N, C)."""
    return values[:, :, None, None] if x.dim() == 4 else values[:, None, :]


class TimeEmbedding(nn.Module):
    """Sinusoidal features of t (Vaswani et al., 2017) and a two-layer perceptron: (B,) -> (B, embedding_dim).

    Args:
        embedding_dim: E, an even number.
    """

    frequencies: torch.Tensor

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        exponent = torch.arange(embedding_dim // 2) / (embedding_dim // 2)
        self.register_buffer("frequencies", torch.exp(-math.log(1000.0) * exponent), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(embedding_dim, embedding_dim), nn.SiLU(), nn.Linear(embedding_dim, embedding_dim), nn.SiLU()
        )

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Embeds (B,) integer timesteps."""
        phase = timesteps[:, None].to(self.frequencies.dtype) * self.frequencies
        return self.mlp(torch.cat([phase.sin(), phase.cos()], dim=1))


class ChannelNorm(nn.BatchNorm1d):
    """BatchNorm of maps (B, C, H, W) as well: flattening them would rearrange those that lie channels last."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"the input is {list(input.shape)}; expected (B, C), (B, C, N) or (B, C, H, W)")


class TimeBinarization(nn.Module):
    """TB, HiDiff Eq. 15: u^b = +1 where u > alpha_i(t), else -1, on inputs normalised channel by channel.

    The shortcuts of many blocks add up; without the normalization most signs of the deep levels end up equal and most
    inputs outside the straight-through window, so that whole channels carry nothing (ours, not the paper's). It has no
    weights: at inference mean and deviation fold into the threshold, mu_i + sigma_i alpha_i(t).

    Args:
        channels: C.
        embedding_dim: E of the time embedding.
    """

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, affine=False)
        self.threshold = _zero_linear(embedding_dim, channels)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Binarizes maps (B, C, H, W) or tokens (B, N, C) with the (B, E) embedding's thresholds."""
        normalised = self.norm(x) if x.dim() == 4 else self.norm(x.transpose(1, 2)).transpose(1, 2)
        return sign_ste(normalised + per_channel(-self.threshold(embedding), x))


class TimeActivation(nn.Module):
    """TA, HiDiff Eq. 16: u - gamma + zeta where u > gamma, else beta (u - gamma) + zeta, channel by channel.

    gamma(t) and zeta(t) are linear in the time embedding, beta is learnt and starts at 0.25.

    Args:
        channels: C.
        embedding_dim: E of the time embedding.
    """

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.shifts = _zero_linear(embedding_dim, 2 * channels)
        self.slope = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Activates maps (B, C, H, W) or tokens (B, N, C)."""
        gamma, zeta = self.shifts(embedding).chunk(2, dim=1)
        centred = x + per_channel(-gamma, x)
        if x.dim() == 4:
            activated = F.prelu(centred, self.slope)
        else:
            activated = F.prelu(centred.transpose(1, 2), self.slope).transpose(1, 2)
        return activated + per_channel(zeta, x)


def _zero_linear(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
