"""The binarized refiner on packed signs: 1-bit weights, XNOR and popcount, one operator per layer."""

from typing import List, Optional, Sequence

import torch
from torch import nn

from hidiff_monai.networks.folding import RealInput, fold_real, time_embeddings
from hidiff_monai.networks.packed_blocks import PackedCrossTransformer, PackedDownLevel, PackedUpLevel
from hidiff_monai.networks.packed_workspace import Workspace
from hidiff_monai.networks.padding import fit_features, pad_to_multiple
from hidiff_monai.networks.refiner import DiffusionRefiner


class PackedRefiner(nn.Module):
    """A trained, binarized ``DiffusionRefiner`` for inference; ``HiDiff`` takes it in its place.

    Made by ``DiffusionRefiner.compile_inference``; the arguments here are those of an empty one, whose buffers a state
    dict fills. It has no parameters, passes on no gradient, and all samples of a call share one t. It works in an arena
    that it keeps between calls (``workspace``): two threads need two copies.

    Args:
        image_channels: as of ``DiffusionRefiner``, and so the next five.
        num_targets: K.
        feature_channels: channels of the segmentor's feature maps.
        feature_strides: their strides.
        channels: channels of the levels.
        num_heads: heads of the X-Former.
        num_timesteps: T, rows of the tables.
        storage: of the real-valued maps between layers, float32, or float16 for half the memory: then masks differ from
            the trained network's by up to a Dice point. Sums are float32 in either.

    Raises:
        ValueError: when a stride or the storage does not fit.
    """

    sample_weight: torch.Tensor
    head_weight: torch.Tensor
    head_bias: torch.Tensor

    def __init__(
        self,
        image_channels: int,
        num_targets: int,
        feature_channels: Sequence[int],
        feature_strides: Sequence[int],
        channels: Sequence[int],
        num_heads: int,
        num_timesteps: int,
        storage: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if storage not in (torch.float16, torch.float32) or num_timesteps < 1:
            raise ValueError(
                f"storage is {storage}, num_timesteps {num_timesteps}; expected torch.float16 or torch.float32, and "
                "at least 1"
            )
        self.binarized = True
        self.image_channels = image_channels
        self.num_targets = num_targets
        self.num_timesteps = num_timesteps
        self.num_heads = num_heads
        self.prior_epsilon = 1e-4
        self.divisor = 2 ** (len(channels) - 1)
        self.channels: List[int] = list(channels)
        self.feature_channels: List[int] = list(feature_channels)
        self.feature_strides: List[int] = list(feature_strides)
        levels = {2**level: level for level in range(len(channels))}
        self.feature_indices: List[int] = [i for i, stride in enumerate(feature_strides) if stride in levels]
        self.feature_levels: List[int] = [levels[feature_strides[i]] for i in self.feature_indices]
        self.workspace = Workspace(self.channels, self.feature_levels, num_targets, storage)
        self._build_ends()
        self._build_levels()

    def _build_ends(self) -> None:
        width = self.channels[0]
        self.stem_image = RealInput(self.image_channels + self.num_targets, width, 3)
        self.projections = nn.ModuleList(
            RealInput(self.feature_channels[i], self.channels[level], 1)
            for i, level in zip(self.feature_indices, self.feature_levels)
        )
        self.register_buffer("sample_weight", torch.zeros(9, self.num_targets, width))
        self.register_buffer("head_weight", torch.zeros(self.num_targets, 9, width))
        self.register_buffer("head_bias", torch.zeros(self.num_targets))

    def _build_levels(self) -> None:
        channels, last = self.channels, len(self.channels) - 1
        self.down_levels = nn.ModuleList(
            PackedDownLevel(
                channels[max(level - 1, 0)],
                width,
                self.num_timesteps,
                stride=2 if level else 1,
                has_condition=level in self.feature_levels and level < last,
            )
            for level, width in enumerate(channels)
        )
        self.cross_transformer = PackedCrossTransformer(channels[last], self.num_heads, self.num_timesteps)
        self.up_levels = nn.ModuleList(
            PackedUpLevel(channels[level + 1], channels[level], self.num_timesteps) for level in reversed(range(last))
        )

    @torch.no_grad()
    def fill(self, refiner: DiffusionRefiner) -> None:
        """Takes over a trained refiner of the same sizes."""
        embeddings = time_embeddings(refiner, self.num_timesteps)
        self.prior_epsilon = refiner.prior_epsilon
        self.stem_image.fill(fold_real(refiner.stem_image, refiner.stem_norm))
        for projection, given in zip(self.projections, refiner.projections):
            projection.fill(fold_real(given.conv, given.norm))  # type: ignore[operator, arg-type]
        sample_weight = fold_real(refiner.stem_sample, refiner.stem_norm).weight  # (C, K, 3, 3)
        self.sample_weight.copy_(sample_weight.flatten(2).permute(2, 1, 0))
        self.head_weight.copy_(refiner.correction.weight.flatten(2).transpose(1, 2))
        self.head_bias.copy_(refiner.correction.bias)  # type: ignore[arg-type]
        for level, trained in zip([*self.down_levels, *self.up_levels], [*refiner.down_levels, *refiner.up_levels]):
            level.fill(trained, embeddings)
        self.cross_transformer.fill(refiner.cross_transformer, embeddings)

    def encode_condition(
        self, image: torch.Tensor, prior: torch.Tensor, features: List[torch.Tensor]
    ) -> List[Optional[torch.Tensor]]:
        """As `DiffusionRefiner.encode_condition`: what does not depend on y_t.

        Returns:
            The stem's share (B, H, W, C), one projected map (B, h, w, C) (or None) per level, the prior's logit.
        """
        with torch.no_grad():
            fitted = fit_features(
                features, self.feature_strides, self.feature_indices, image.shape[2], image.shape[3], self.divisor
            )
            inputs = pad_to_multiple(torch.cat([image, 2 * prior - 1], dim=1), self.divisor)
            share = self.stem_image(inputs).permute(0, 2, 3, 1).to(self.workspace.values.dtype).contiguous()
            condition: List[Optional[torch.Tensor]] = [share]
            for _ in range(len(self.down_levels)):
                condition.append(None)
            for i, projection in enumerate(self.projections):
                projected = projection(fitted[i]).permute(0, 2, 3, 1)
                condition[self.feature_levels[i] + 1] = projected.float().contiguous()
            condition.append(torch.logit(prior.float(), eps=self.prior_epsilon))
        return condition

    def repeat_condition(
        self, condition: List[Optional[torch.Tensor]], num_samples: int
    ) -> List[Optional[torch.Tensor]]:
        """The condition of ``num_samples`` chains in one batch: as it is, since every chain reads its image's."""
        return condition

    def denoise(
        self,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        prior: torch.Tensor,
        condition: List[Optional[torch.Tensor]],
    ) -> torch.Tensor:
        """Noise logits of y_t.

        Args:
            sample: y_t, (B, K, H, W), in {0, 1}: chains of B' images, image n % B' in place n.
            timesteps: t, (B,), integers in [0, T), one and the same for the whole batch.
            prior: f(x); its logit is in the condition already.
            condition: the result of ``encode_condition`` for B' images.

        Returns:
            logit eps_hat, (B, K, H, W) float32.
        """
        if sample.shape[0] == 0:
            return sample.float()
        return self._denoise(sample, self._common_timestep(timesteps), condition)

    def _denoise(self, sample: torch.Tensor, t: int, condition: List[Optional[torch.Tensor]]) -> torch.Tensor:
        share, logit = condition[0], condition[len(condition) - 1]
        assert share is not None and logit is not None
        batch, images = sample.shape[0], share.shape[0]
        if batch % images != 0:
            raise ValueError(f"sample holds {batch} chains of {images} images; expected as many of each image")
        with torch.no_grad():
            signs = 2 * sample.float() - 1
            self.workspace.prepare(batch, images, share.shape[1], share.shape[2], sample.device)
            self._step(t, pad_to_multiple(signs, self.divisor).contiguous(), share, condition)
            correction = self.workspace.correction()[:, :, : sample.shape[2], : sample.shape[3]]
            logits = logit + correction.unflatten(0, [batch // images, images])
            return -signs * logits.flatten(0, 1)

    def forward(
        self,
        image: torch.Tensor,
        sample: torch.Tensor,
        prior: torch.Tensor,
        features: List[torch.Tensor],
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """Noise logits (B, K, H, W); see ``encode_condition`` and ``denoise`` for the arguments."""
        return self.denoise(sample, timesteps, prior, self.encode_condition(image, prior, features))

    def _common_timestep(self, timesteps: torch.Tensor) -> int:
        t = int(timesteps[0])
        if not bool((timesteps == t).all()) or t < 0 or t >= self.num_timesteps:
            raise ValueError(
                f"timesteps are {timesteps}; expected one t for the whole batch, in "
                f"[0, {self.num_timesteps}): call each by itself"
            )
        return t

    def _step(self, t: int, signs: torch.Tensor, share: torch.Tensor, condition: List[Optional[torch.Tensor]]) -> None:
        """From 2 y_t - 1, (B, K, H, W), to the workspace's correction."""
        entries: List[torch.Tensor] = []
        merges: List[torch.Tensor] = []
        skips: List[torch.Tensor] = []
        for level in self.down_levels:
            entries.append(level.entry(t))  # type: ignore[operator]
        for level in self.up_levels:
            merge, skip = level.entries(t)  # type: ignore[operator]
            merges.append(merge)
            skips.append(skip)
        last = len(entries) - 1
        tokens, asker = self.workspace.tokens(), self.cross_transformer.into_prior
        above = self.workspace.level(0)
        torch.ops.hidiff_monai.stem_conv2d(signs, self.sample_weight, share, above.stream, entries[0], above.bits)
        for i, level in enumerate(self.down_levels):
            maps = self.workspace.level(i)
            if i < last:
                feature = condition[i + 1]
                level(t, above, maps, feature, entries[i + 1], maps.bits, skips[last - 1 - i], maps.skip)
            else:
                key, value = asker.key.threshold[t], asker.value.threshold[t]
                level(t, above, maps, None, key, tokens.key_bits, value, tokens.value_bits)
            above = maps
        prior_feature = condition[last + 1]
        assert prior_feature is not None
        self.cross_transformer(t, prior_feature, above, tokens, merges[0])
        for i, level in enumerate(self.up_levels):
            maps = self.workspace.level(last - 1 - i)
            level(t, above, maps, merges[i + 1] if i + 1 < last else None)
            above = maps
        torch.ops.hidiff_monai.head_conv2d(above.stream, self.head_weight, self.head_bias, self.workspace.correction())


def pack_refiner(refiner: DiffusionRefiner, num_timesteps: int, storage: torch.dtype = torch.float32) -> PackedRefiner:
    """A packed copy of a trained refiner, which later training does not change.

    Args:
        refiner: binarized.
        num_timesteps: T of the scheduler.
        storage: see `PackedRefiner`.

    Raises:
        ValueError: when the refiner is real-valued.
    """
    if not refiner.binarized:
        raise ValueError("the refiner is real-valued; expected binarized=True: its signs are what is packed")
    packed = PackedRefiner(
        refiner.image_channels,
        refiner.num_targets,
        refiner.feature_channels,
        refiner.feature_strides,
        [level.basic.out_channels for level in refiner.down_levels],  # type: ignore[union-attr, misc]
        refiner.cross_transformer.into_prior.num_heads,
        num_timesteps,
        storage,
    )
    packed.fill(refiner)
    return packed.to(refiner.stem_sample.weight.device).eval()
