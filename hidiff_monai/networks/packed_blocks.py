"""The refiner's levels and its X-Former on packed signs.

The real-valued stream of a level is updated in place; each layer writes the bits of the next one with that one's
thresholds, so that nothing is read only to be binarized.
"""

from typing import Optional, Tuple

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.blocks import DownLevel, UpLevel
from hidiff_monai.networks.folding import fold_block, fold_threshold, fold_tokens
from hidiff_monai.networks.packed_layers import PackedConv
from hidiff_monai.networks.packed_workspace import LevelMaps, TokenMaps
from hidiff_monai.networks.xformer import CrossTransformer, CrossTransformerBlock


class PackedDownLevel(nn.Module):
    """`DownLevel`, packed.

    Args:
        in_channels: channels of the level above.
        channels: channels of this level.
        num_timesteps: T.
        stride: 2, or 1 for the level at full resolution.
        has_condition: True where a prior feature enters.
    """

    def __init__(self, in_channels: int, channels: int, num_timesteps: int, stride: int, has_condition: bool) -> None:
        super().__init__()
        self.down = PackedConv(in_channels, channels, num_timesteps, stride=2) if stride == 2 else None
        extra_channels = channels if has_condition else 0
        self.condition = PackedConv(channels, channels, num_timesteps, extra_channels=extra_channels)
        self.basic = PackedConv(channels, channels, num_timesteps)

    def fill(self, level: DownLevel, embeddings: torch.Tensor) -> None:
        """Takes over a trained level."""
        if self.down is not None:
            assert level.down is not None
            self.down.fill(fold_block(level.down, embeddings))
        self.condition.fill(fold_block(level.condition, embeddings))
        self.basic.fill(fold_block(level.basic, embeddings))

    def entry(self, t: int) -> torch.Tensor:
        """The thresholds that the level above, or the stem, binarizes with: (C,)."""
        if self.down is not None:
            return self.down.threshold[t]
        return self.condition.threshold[t]

    def forward(
        self,
        t: int,
        above: LevelMaps,
        maps: LevelMaps,
        feature: Optional[torch.Tensor],
        exit_threshold: torch.Tensor,
        exit_bits: torch.Tensor,
        skip_threshold: torch.Tensor,
        skip_bits: torch.Tensor,
    ) -> None:
        """From ``above`` (at full resolution, ``maps`` as the stem left it) to ``maps`` and the bits that others read.

        Args:
            t: the step.
            above: maps of the level above.
            maps: maps of this level.
            feature: the projected prior feature, (B', H, W, C), or None.
            exit_threshold: of the layer that follows, (C,).
            exit_bits: packed, its input.
            skip_threshold: of the layer at the skip connection's end, (C,).
            skip_bits: packed, its input.
        """
        if self.down is not None:
            self.down(t, above.bits, None, above.stream, maps.stream, self.condition.threshold[t], maps.bits)
        extra: Optional[torch.Tensor] = None
        if feature is not None:
            torch.ops.hidiff_monai.pack_signs(feature, self.condition.extra_threshold[t], maps.extra)
            extra = maps.extra
        self.condition(t, maps.bits, extra, maps.stream, maps.stream, self.basic.threshold[t], maps.spare)
        self.basic(
            t, maps.spare, None, maps.stream, maps.stream, exit_threshold, exit_bits, skip_threshold, skip_bits
        )  # fmt: skip


class PackedUpLevel(nn.Module):
    """`UpLevel`, packed: the convolution reads the low-resolution bits, nearest x2 is never made.

    Args:
        in_channels: channels of the level below.
        channels: channels of this level and of its skip connection.
        num_timesteps: T.
    """

    def __init__(self, in_channels: int, channels: int, num_timesteps: int) -> None:
        super().__init__()
        self.merge = PackedConv(in_channels, channels, num_timesteps, upsamples=True, extra_channels=channels)
        self.basic = PackedConv(channels, channels, num_timesteps)

    def fill(self, level: UpLevel, embeddings: torch.Tensor) -> None:
        """Takes over a trained level."""
        self.merge.fill(fold_block(level.merge, embeddings))
        self.basic.fill(fold_block(level.basic, embeddings))

    def entries(self, t: int) -> Tuple[torch.Tensor, torch.Tensor]:
        """The thresholds that the level below and the skip connection binarize with: (in_channels,), (channels,)."""
        return self.merge.threshold[t], self.merge.extra_threshold[t]

    def forward(self, t: int, below: LevelMaps, maps: LevelMaps, exit_threshold: Optional[torch.Tensor]) -> None:
        """From ``below`` and ``maps.skip`` to ``maps.stream``, and to ``maps.bits`` if a threshold (C,) is given."""
        self.merge(t, below.bits, maps.skip, below.stream, maps.stream, self.basic.threshold[t], maps.spare)
        bits = None if exit_threshold is None else maps.bits
        self.basic(t, maps.spare, None, maps.stream, maps.stream, exit_threshold, bits)


class PackedAttention(nn.Module):
    """`CrossTransformerBlock`, packed, on maps (B, h, w, C); the attention itself is torch's.

    Args:
        channels: C.
        num_heads: heads, a divisor of C.
        num_timesteps: T.
    """

    query_threshold: torch.Tensor
    key_threshold: torch.Tensor
    value_threshold: torch.Tensor

    def __init__(self, channels: int, num_heads: int, num_timesteps: int) -> None:
        super().__init__()

        def linear(inputs: int, outputs: int, activates: bool = False) -> PackedConv:
            return PackedConv(inputs, outputs, num_timesteps, kernel_size=1, activates=activates)

        self.num_heads = num_heads
        self.query, self.key, self.value = (linear(channels, channels) for _ in range(3))
        self.project = linear(channels, channels)
        self.expand = linear(channels, 4 * channels, activates=True)
        self.reduce = linear(4 * channels, channels)
        for name in ("query", "key", "value"):
            self.register_buffer(f"{name}_threshold", torch.zeros(num_timesteps, channels))

    def fill(self, block: CrossTransformerBlock, embeddings: torch.Tensor) -> None:
        """Takes over a trained block."""
        for name in ("query", "key", "value", "project", "reduce"):
            getattr(self, name).fill(fold_tokens(getattr(block, name), embeddings))
        self.expand.fill(fold_tokens(block.expand, embeddings, block.activate))
        for name in ("query", "key", "value"):
            table = fold_threshold(getattr(block, f"binarize_{name}"), embeddings)
            getattr(self, f"{name}_threshold").copy_(table)

    def forward(
        self,
        t: int,
        query: torch.Tensor,
        maps: TokenMaps,
        tokens: torch.Tensor,
        out: Optional[torch.Tensor],
        exit_threshold: torch.Tensor,
        exit_bits: torch.Tensor,
        skip_threshold: Optional[torch.Tensor],
        skip_bits: Optional[torch.Tensor],
    ) -> None:
        """``maps.key_bits`` and ``maps.value_bits`` answer the query, and the tokens are enriched in place.

        Args:
            t: the step.
            query: real-valued, (B', h, w, C).
            maps: the X-Former's.
            tokens: (B, h, w, C).
            out: the result, likewise; None where only its bits are read.
            exit_threshold: of the layer that follows, (C,).
            exit_bits: packed, its input.
            skip_threshold: of a second layer that follows, (C,), or None.
            skip_bits: packed, its input, or None.
        """
        self.key(t, maps.key_bits, None, None, maps.key)
        self.value(t, maps.value_bits, None, None, maps.value)
        attended = self._attend(t, query, maps.key, maps.value)
        torch.ops.hidiff_monai.pack_signs(attended, self.project.threshold[t], maps.query_bits)
        self.project(t, maps.query_bits, None, tokens, tokens, self.expand.threshold[t], maps.key_bits)
        self.expand(t, maps.key_bits, None, None, None, self.reduce.threshold[t], maps.hidden_bits)
        self.reduce(
            t, maps.hidden_bits, None, tokens, out, exit_threshold, exit_bits, skip_threshold, skip_bits
        )  # fmt: skip

    def _attend(self, t: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(B', h, w, C), (B, h, w, C), (B, h, w, C) -> (B, h, w, C)."""
        asked = self._heads(query, self.query_threshold[t]).repeat(key.shape[0] // query.shape[0], 1, 1, 1)
        keys, values = self._heads(key, self.key_threshold[t]), self._heads(value, self.value_threshold[t])
        attended = F.scaled_dot_product_attention(asked, keys, values)  # (B, heads, N, C / heads)
        return attended.float().transpose(1, 2).reshape(key.shape).contiguous()

    def _heads(self, x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        """Signs of (B, h, w, C), as (B, heads, N, C / heads)."""
        signs = (x > threshold).to(x.dtype).mul_(2).sub_(1)
        return signs.flatten(1, 2).unflatten(2, [self.num_heads, x.shape[3] // self.num_heads]).transpose(1, 2)


class PackedCrossTransformer(nn.Module):
    """`CrossTransformer`, packed.

    Args:
        channels: C.
        num_heads: heads, a divisor of C.
        num_timesteps: T.
    """

    def __init__(self, channels: int, num_heads: int, num_timesteps: int) -> None:
        super().__init__()
        self.into_prior = PackedAttention(channels, num_heads, num_timesteps)
        self.into_diffusion = PackedAttention(channels, num_heads, num_timesteps)

    def fill(self, transformer: CrossTransformer, embeddings: torch.Tensor) -> None:
        """Takes over a trained one."""
        self.into_prior.fill(transformer.into_prior, embeddings)
        self.into_diffusion.fill(transformer.into_diffusion, embeddings)

    def forward(
        self, t: int, prior: torch.Tensor, level: LevelMaps, maps: TokenMaps, exit_threshold: torch.Tensor
    ) -> None:
        """Enriches the bottleneck's stream, and writes its bits for the first up level.

        Args:
            t: the step.
            prior: the projected prior feature, (B', h, w, C) float32.
            level: the bottleneck's maps.
            maps: the X-Former's maps: the bits of key and value hold the stream already.
            exit_threshold: of the first up level, (C,).
        """
        images = prior.shape[0]
        torch.ops.hidiff_monai.pack_signs(prior, self.into_prior.query.threshold[t], maps.image_bits)
        self.into_prior.query(t, maps.image_bits, None, None, maps.image_query)
        maps.tokens.unflatten(0, [maps.tokens.shape[0] // images, images]).copy_(prior)
        key, value = self.into_diffusion.key.threshold[t], self.into_diffusion.value.threshold[t]
        self.into_prior(
            t, maps.image_query, maps, maps.tokens, None, key, maps.key_bits, value, maps.value_bits
        )  # fmt: skip
        torch.ops.hidiff_monai.pack_signs(level.stream, self.into_diffusion.query.threshold[t], maps.query_bits)
        self.into_diffusion.query(t, maps.query_bits, None, None, maps.query)
        stream = level.stream
        self.into_diffusion(t, maps.query, maps, stream, stream, exit_threshold, level.bits, None, None)
