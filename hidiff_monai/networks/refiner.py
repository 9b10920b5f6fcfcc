"""The diffusion refiner g: estimates which pixels of y_t are noise (HiDiff, Fig. 2)."""

from typing import TYPE_CHECKING, List, Optional, Sequence

import torch
from torch import nn

from hidiff_monai.networks.blocks import ConditionProjection, DownLevel, UpLevel
from hidiff_monai.networks.padding import fit_features, pad_to_multiple
from hidiff_monai.networks.time_modules import TimeEmbedding
from hidiff_monai.networks.xformer import CrossTransformer

if TYPE_CHECKING:
    from hidiff_monai.networks.packed_refiner import PackedRefiner


class DiffusionRefiner(nn.Module):
    """A U-shaped network of ``len(channels)`` levels, real-valued or binarized, conditioned on a segmentor.

    Image, y_t and prior enter at full resolution; the segmentor's features enter beside the levels of their stride,
    the one at the bottleneck through the X-Former. Input projections and output convolution stay real-valued.

    The network corrects the prior's logit, and y_t turns the corrected mask into noise: logit eps_hat =
    (1 - 2 y_t) (logit f + g(...)), so that logit |y_t - eps_hat| = logit f + g(...) in whichever state a pixel is. The
    output convolution starts at zero: an untrained refiner returns the prior.

    Args:
        image_channels: channels of the image, 1 to 4 and more.
        num_targets: K, channels of mask and prior.
        feature_channels: channels of the segmentor's feature maps.
        feature_strides: their strides; one must be the bottleneck's, 2 ** (len(channels) - 1). Strides that no level
            has are left unused.
        channels: channels of the levels, from full resolution to the bottleneck; the paper's are
            128 * (1, 1, 2, 2, 4, 4).
        embedding_dim: E of the time embedding, even.
        num_heads: heads of the X-Former, a divisor of the bottleneck's channels.
        binarized: False for the real-valued twin.

    Raises:
        ValueError: when features and levels do not fit together.
    """

    def __init__(
        self,
        image_channels: int,
        num_targets: int,
        feature_channels: Sequence[int],
        feature_strides: Sequence[int] = (4, 8, 16, 32),
        channels: Sequence[int] = (128, 128, 256, 256, 512, 512),
        embedding_dim: int = 32,
        num_heads: int = 4,
        binarized: bool = True,
    ) -> None:
        super().__init__()
        self.divisor = 2 ** (len(channels) - 1)
        _check_levels(feature_channels, feature_strides, channels, num_heads, self.divisor)
        self.image_channels = image_channels
        self.num_targets = num_targets
        self.feature_channels: List[int] = list(feature_channels)
        self.binarized = binarized
        self.prior_epsilon = 1e-4  # keeps logit f within 9.2, so that g can overrule a saturated prior
        level_of_stride = {2**level: level for level in range(len(channels))}
        self.feature_strides: List[int] = list(feature_strides)
        self.feature_indices: List[int] = [i for i, stride in enumerate(feature_strides) if stride in level_of_stride]
        self.feature_levels: List[int] = [level_of_stride[feature_strides[i]] for i in self.feature_indices]

        self.time_embedding = TimeEmbedding(embedding_dim)
        self.stem_image = nn.Conv2d(image_channels + num_targets, channels[0], 3, padding=1, bias=False)
        self.stem_sample = nn.Conv2d(num_targets, channels[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels[0])
        self.projections = nn.ModuleList(
            ConditionProjection(feature_channels[i], channels[level])
            for i, level in zip(self.feature_indices, self.feature_levels)
        )
        self.down_levels = nn.ModuleList(
            DownLevel(
                channels[max(level - 1, 0)],
                width,
                embedding_dim,
                binarized,
                stride=2 if level else 1,
                has_condition=level in self.feature_levels and level < len(channels) - 1,
            )
            for level, width in enumerate(channels)
        )
        self.cross_transformer = CrossTransformer(channels[-1], num_heads, embedding_dim, binarized)
        self.up_levels = nn.ModuleList(
            UpLevel(channels[level + 1], channels[level], embedding_dim, binarized)
            for level in reversed(range(len(channels) - 1))
        )
        self.correction = nn.Conv2d(channels[0], num_targets, 3, padding=1)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)  # type: ignore[arg-type]

    def encode_condition(
        self, image: torch.Tensor, prior: torch.Tensor, features: List[torch.Tensor]
    ) -> List[Optional[torch.Tensor]]:
        """Everything that depends on the image alone; computed once, used in every step and for every sample.

        Args:
            image: (B, image_channels, H, W).
            prior: f(x), (B, K, H, W), in [0, 1].
            features: the segmentor's maps, in the order of ``feature_strides``; sizes H/stride, W/stride rounded
                down or up, or those of the padded image.

        Returns:
            The stem's share, then one projected map (or None) per level.
        """
        fitted = fit_features(
            features, self.feature_strides, self.feature_indices, image.shape[2], image.shape[3], self.divisor
        )
        inputs = pad_to_multiple(torch.cat([image, 2 * prior - 1], dim=1), self.divisor)
        condition: List[Optional[torch.Tensor]] = [self.stem_image(inputs)]
        for _ in range(len(self.down_levels)):
            condition.append(None)
        for i, projection in enumerate(self.projections):
            condition[self.feature_levels[i] + 1] = projection(fitted[i])
        return condition

    def repeat_condition(
        self, condition: List[Optional[torch.Tensor]], num_samples: int
    ) -> List[Optional[torch.Tensor]]:
        """The condition of ``num_samples`` chains in one batch: chain after chain, each with every image."""
        repeated: List[Optional[torch.Tensor]] = []
        for entry in condition:
            repeated.append(None if entry is None else entry.repeat(num_samples, 1, 1, 1))
        return repeated

    def denoise(
        self,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        prior: torch.Tensor,
        condition: List[Optional[torch.Tensor]],
    ) -> torch.Tensor:
        """Noise logits of y_t.

        Args:
            sample: y_t, (B, K, H, W), in {0, 1}.
            timesteps: t, (B,), integers in [0, T).
            prior: f(x), (B, K, H, W), in [0, 1].
            condition: the result of ``encode_condition``.

        Returns:
            logit eps_hat, (B, K, H, W).
        """
        signs = 2 * sample - 1
        return -signs * self.estimate_mask(signs, timesteps, prior, condition)

    def estimate_mask(
        self,
        signs: torch.Tensor,
        timesteps: torch.Tensor,
        prior: torch.Tensor,
        condition: List[Optional[torch.Tensor]],
    ) -> torch.Tensor:
        """Logit of the mask y0_hat: the prior's and its correction, (B, K, H, W).

        Args:
            signs: y_t as 2 y_t - 1, (B, K, H, W).
            timesteps: t, (B,), integers in [0, T).
            prior: f(x), (B, K, H, W), in [0, 1].
            condition: the result of ``encode_condition``.
        """
        embedding = self.time_embedding(timesteps)
        stem = condition[0]
        assert stem is not None
        x = self.stem_norm(stem + self.stem_sample(pad_to_multiple(signs, self.divisor)))
        skips: List[torch.Tensor] = []
        last = len(self.down_levels) - 1
        for i, level in enumerate(self.down_levels):
            x = level(x, embedding, condition[i + 1] if i < last else None)
            skips.append(x)
        prior_feature = condition[last + 1]
        assert prior_feature is not None
        x = self.cross_transformer(x, prior_feature, embedding)
        for i, level in enumerate(self.up_levels):
            x = level(x, skips[last - 1 - i], embedding)
        correction = self.correction(x)[:, :, : signs.shape[2], : signs.shape[3]]
        return torch.logit(prior.float(), eps=self.prior_epsilon) + correction

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

    @torch.jit.unused
    def compile_inference(self, num_timesteps: int, storage: torch.dtype = torch.float32) -> "PackedRefiner":
        """A copy with packed signs, XNOR and popcount, for inference only; see `PackedRefiner`.

        Args:
            num_timesteps: T of the scheduler.
            storage: of the real-valued maps between layers, float16 or float32.

        Raises:
            ValueError: when the refiner is real-valued.
        """
        from hidiff_monai.networks.packed_refiner import pack_refiner

        return pack_refiner(self, num_timesteps, storage)


def _check_levels(
    feature_channels: Sequence[int], strides: Sequence[int], channels: Sequence[int], num_heads: int, bottleneck: int
) -> None:
    if len(feature_channels) != len(strides):
        raise ValueError(f"feature_channels has {len(feature_channels)} entries, feature_strides {len(strides)}")
    if len(channels) < 2:
        raise ValueError(f"channels is {list(channels)}; expected at least two levels")
    if bottleneck not in strides:
        raise ValueError(
            f"{len(channels)} levels put the bottleneck at stride {bottleneck}, where no feature map enters (strides "
            f"{list(strides)}); give 'channels' as many entries as fit, or tap the segmentor there"
        )
    if channels[-1] % num_heads:
        raise ValueError(f"num_heads is {num_heads}; expected a divisor of the bottleneck's {channels[-1]} channels")
