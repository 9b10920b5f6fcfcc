"""Cross transformer (X-Former) between prior and diffusion features, real-valued or binarized (HiDiff, Fig. 3)."""

import torch
from torch import nn

from hidiff_monai.networks.binarize import BinaryLinear
from hidiff_monai.networks.time_modules import TimeActivation, TimeBinarization


class TokenBlock(nn.Module):
    """[TB,] linear layer, BatchNorm on tokens (B, N, in_features) -> (B, N, out_features).

    Args:
        in_features: channels of the tokens.
        out_features: channels of the result.
        embedding_dim: E of the time embedding.
        binarized: False for the real-valued twin, which has no TB.
    """

    def __init__(self, in_features: int, out_features: int, embedding_dim: int, binarized: bool) -> None:
        super().__init__()
        self.binarize = TimeBinarization(in_features, embedding_dim) if binarized else None
        self.linear: nn.Module
        if binarized:
            self.linear = BinaryLinear(in_features, out_features)
        else:
            self.linear = nn.Linear(in_features, out_features, bias=False)
        self.norm = nn.BatchNorm1d(out_features)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Applies the layer to every token."""
        if self.binarize is not None:
            x = self.binarize(x, embedding)
        x = self.linear(x)
        return self.norm(x.flatten(0, 1)).reshape(x.shape)


class CrossTransformerBlock(nn.Module):
    """(B)CTB: injects the context's features into the query's by multi-head cross attention and a perceptron.

    Args:
        channels: C of both token sets.
        num_heads: heads, a divisor of C.
        embedding_dim: E of the time embedding.
        binarized: True binarizes every linear layer, and queries, keys and values too.
    """

    def __init__(self, channels: int, num_heads: int, embedding_dim: int, binarized: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = TokenBlock(channels, channels, embedding_dim, binarized)
        self.key = TokenBlock(channels, channels, embedding_dim, binarized)
        self.value = TokenBlock(channels, channels, embedding_dim, binarized)
        self.binarize_query = TimeBinarization(channels, embedding_dim) if binarized else None
        self.binarize_key = TimeBinarization(channels, embedding_dim) if binarized else None
        self.binarize_value = TimeBinarization(channels, embedding_dim) if binarized else None
        self.project = TokenBlock(channels, channels, embedding_dim, binarized)
        self.expand = TokenBlock(channels, 4 * channels, embedding_dim, binarized)
        self.activate = TimeActivation(4 * channels, embedding_dim)
        self.reduce = TokenBlock(4 * channels, channels, embedding_dim, binarized)

    def forward(self, tokens: torch.Tensor, context: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """tokens (B, N, C) ask, context (B, M, C) answers -> enriched tokens (B, N, C)."""
        query = self.query(tokens, embedding)
        key, value = self.key(context, embedding), self.value(context, embedding)
        if self.binarize_query is not None:
            query = self.binarize_query(query, embedding)
        if self.binarize_key is not None:
            key = self.binarize_key(key, embedding)
        if self.binarize_value is not None:
            value = self.binarize_value(value, embedding)
        query, key, value = self._split_heads(query), self._split_heads(key), self._split_heads(value)
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5  # (B, heads, N, M)
        attended = (scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2)  # (B, N, C)
        tokens = tokens + self.project(attended, embedding)
        hidden = self.activate(self.expand(tokens, embedding), embedding)
        return tokens + self.reduce(hidden, embedding)

    def _split_heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, [self.num_heads, x.shape[2] // self.num_heads]).transpose(1, 2)


class CrossTransformer(nn.Module):
    """(B)X-Former: first f_d, f_p -> f'_p, then f'_p, f_d -> f'_d (HiDiff, Sec. II-B.3).

    Args:
        channels: C of both feature maps.
        num_heads: heads, a divisor of C.
        embedding_dim: E of the time embedding.
        binarized: True for BX-Former.
    """

    def __init__(self, channels: int, num_heads: int, embedding_dim: int, binarized: bool) -> None:
        super().__init__()
        self.into_prior = CrossTransformerBlock(channels, num_heads, embedding_dim, binarized)
        self.into_diffusion = CrossTransformerBlock(channels, num_heads, embedding_dim, binarized)

    def forward(self, diffusion: torch.Tensor, prior: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Diffusion and prior features, each (B, C, h, w), -> f'_d of the same shape; any h and w."""
        prior_tokens = prior.flatten(2).transpose(1, 2)
        tokens = diffusion.flatten(2).transpose(1, 2)
        prior_tokens = self.into_prior(prior_tokens, tokens, embedding)
        tokens = self.into_diffusion(tokens, prior_tokens, embedding)
        return tokens.transpose(1, 2).reshape(diffusion.shape)
