"""The refiner's levels and its X-Former, folded; each tells in ``remainder`` which shift its output still lacks."""

from typing import Optional

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.blocks import ConvBlock, DownLevel, UpLevel, match_channels
from hidiff_monai.networks.folded_layers import DenseLayer, absorb, dense_layer
from hidiff_monai.networks.folding import fold_block, fold_threshold, fold_tokens
from hidiff_monai.networks.time_modules import TimeBinarization
from hidiff_monai.networks.xformer import CrossTransformer, CrossTransformerBlock


def dense_block(
    block: ConvBlock,
    embeddings: torch.Tensor,
    remainder: torch.Tensor,
    dtype: torch.dtype,
    extra: Optional[torch.Tensor] = None,
    upsamples: bool = False,
) -> DenseLayer:
    """A block whose input lacks ``remainder`` (T, C, 1, 1), and its extra input ``extra`` (T, E, 1, 1)."""
    folded = fold_block(block, embeddings)
    inputs = remainder if extra is None else torch.cat([remainder, extra], dim=1)
    shortcut = match_channels(remainder, block.out_channels)
    return dense_layer(absorb(folded, _table(inputs), _table(shortcut)), dtype, block.stride, upsamples)


class FoldedDownLevel(nn.Module):
    """`DownLevel`, folded.

    Args:
        level: the trained level, in evaluation mode.
        embeddings: of every t, (T, E).
        remainder: what the level's input lacks, (T, C, 1, 1).
        dtype: of the binary convolutions.
    """

    def __init__(self, level: DownLevel, embeddings: torch.Tensor, remainder: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.down = None if level.down is None else dense_block(level.down, embeddings, remainder, dtype)
        if self.down is not None:
            remainder = self.down.remainder
        self.channels = level.condition.out_channels
        complete = embeddings.new_zeros(len(embeddings), self.channels, 1, 1)
        extra = complete if _has_extra(level.condition) else None
        self.condition = dense_block(level.condition, embeddings, remainder, dtype, extra)
        self.basic = dense_block(level.basic, embeddings, self.condition.remainder, dtype)

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: Optional[torch.Tensor]) -> torch.Tensor:
        """x (B, in_channels, H, W), t (1,) -> (B, channels, H/stride, W/stride)."""
        if self.down is not None:
            x = self.down(x, t, match_channels(F.avg_pool2d(x, 2), self.channels), None)
        x = self.condition(x, t, x, condition)
        return self.basic(x, t, x, None)


class FoldedUpLevel(nn.Module):
    """`UpLevel`, folded: nearest x2 is never made, since signs and shortcuts are taken before it.

    Args:
        level: the trained level, in evaluation mode.
        embeddings: of every t, (T, E).
        remainder: what the level's input lacks, (T, in_channels, 1, 1).
        skip: what its skip connection lacks, (T, channels, 1, 1).
        dtype: of the binary convolutions.
    """

    def __init__(
        self,
        level: UpLevel,
        embeddings: torch.Tensor,
        remainder: torch.Tensor,
        skip: torch.Tensor,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.channels = level.merge.out_channels
        self.merge = dense_block(level.merge, embeddings, remainder, dtype, skip, upsamples=True)
        self.basic = dense_block(level.basic, embeddings, self.merge.remainder, dtype)

    def forward(self, x: torch.Tensor, skip: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x (B, in_channels, H/2, W/2), skip (B, channels, H, W), t (1,) -> (B, channels, H, W)."""
        x = self.merge(x, t, match_channels(x, self.channels), skip)
        return self.basic(x, t, x, None)


class FoldedAttention(nn.Module):
    """`CrossTransformerBlock`, folded, on maps: a linear layer of the tokens is a 1x1 convolution.

    Args:
        block: the trained block, in evaluation mode.
        embeddings: of every t, (T, E).
        remainder: what the input lacks, (T, C, 1, 1); the output lacks the same.
        context: what the context lacks, likewise.
        dtype: of the binary convolutions.
    """

    query_threshold: Optional[torch.Tensor]
    key_threshold: Optional[torch.Tensor]
    value_threshold: Optional[torch.Tensor]

    def __init__(
        self,
        block: CrossTransformerBlock,
        embeddings: torch.Tensor,
        remainder: torch.Tensor,
        context: torch.Tensor,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.num_heads = block.num_heads
        asked, answers = _table(remainder), _table(context)
        self.query = dense_layer(absorb(fold_tokens(block.query, embeddings), asked), dtype)
        self.key = dense_layer(absorb(fold_tokens(block.key, embeddings), answers), dtype)
        self.value = dense_layer(absorb(fold_tokens(block.value, embeddings), answers), dtype)
        self.project = dense_layer(fold_tokens(block.project, embeddings), dtype)
        self.expand = dense_layer(absorb(fold_tokens(block.expand, embeddings, block.activate), asked), dtype)
        hidden = _table(self.expand.remainder)
        self.reduce = dense_layer(absorb(fold_tokens(block.reduce, embeddings), hidden), dtype)
        self._keep_threshold("query_threshold", block.binarize_query, embeddings)
        self._keep_threshold("key_threshold", block.binarize_key, embeddings)
        self._keep_threshold("value_threshold", block.binarize_value, embeddings)

    def forward(self, x: torch.Tensor, context: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x (B, C, h, w) asks, context (B, C, h', w') answers, t (1,) -> (B, C, h, w)."""
        query = self._heads(self._sign(self.query(x, t, None, None), self.query_threshold, t))
        key = self._heads(self._sign(self.key(context, t, None, None), self.key_threshold, t))
        value = self._heads(self._sign(self.value(context, t, None, None), self.value_threshold, t))
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, C / heads)
        attended = attended.transpose(1, 2).flatten(2).transpose(1, 2).reshape(x.shape)
        x = self.project(attended.contiguous(memory_format=torch.channels_last), t, x, None)
        return self.reduce(self.expand(x, t, None, None), t, x, None)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, heads, N, C / heads)."""
        return x.flatten(2).unflatten(1, [self.num_heads, x.shape[1] // self.num_heads]).transpose(2, 3)

    def _sign(self, x: torch.Tensor, threshold: Optional[torch.Tensor], t: torch.Tensor) -> torch.Tensor:
        if threshold is None:
            return x
        return (x > threshold.index_select(0, t)).to(x.dtype) * 2 - 1

    def _keep_threshold(self, name: str, binarize: Optional[TimeBinarization], embeddings: torch.Tensor) -> None:
        table = None if binarize is None else fold_threshold(binarize, embeddings)[:, :, None, None].detach().clone()
        self.register_buffer(name, table)


class FoldedCrossTransformer(nn.Module):
    """`CrossTransformer`, folded; its output lacks what its input does.

    Args:
        transformer: the trained one, in evaluation mode.
        embeddings: of every t, (T, E).
        remainder: what the diffusion features lack, (T, C, 1, 1); the prior's lack nothing.
        dtype: of the binary convolutions.
    """

    def __init__(
        self, transformer: CrossTransformer, embeddings: torch.Tensor, remainder: torch.Tensor, dtype: torch.dtype
    ) -> None:
        super().__init__()
        complete = torch.zeros_like(remainder)
        self.into_prior = FoldedAttention(transformer.into_prior, embeddings, complete, remainder, dtype)
        self.into_diffusion = FoldedAttention(transformer.into_diffusion, embeddings, remainder, complete, dtype)

    def forward(self, diffusion: torch.Tensor, prior: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Diffusion and prior features, each (B, C, h, w), t (1,) -> (B, C, h, w)."""
        return self.into_diffusion(diffusion, self.into_prior(prior, diffusion, t), t)


def _table(values: torch.Tensor) -> torch.Tensor:
    """(T, C, 1, 1) -> (T, C)."""
    return values[:, :, 0, 0]


def _has_extra(block: ConvBlock) -> bool:
    """Whether a block that keeps its channels convolves a second input beside the first."""
    weight = block.conv.weight
    assert isinstance(weight, torch.Tensor)
    return weight.shape[1] > block.out_channels
