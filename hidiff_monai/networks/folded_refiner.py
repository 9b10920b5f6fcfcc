"""The refiner for inference on any device: folded, and executed by torch's own convolutions, channels last."""

from typing import List, Optional

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.folded_blocks import FoldedCrossTransformer, FoldedDownLevel, FoldedUpLevel
from hidiff_monai.networks.folded_layers import EXACT_UP_TO, by_image
from hidiff_monai.networks.folding import FoldedInput, RealInput, fold_real, time_embeddings
from hidiff_monai.networks.padding import fit_features, pad_to_multiple
from hidiff_monai.networks.refiner import DiffusionRefiner


class FoldedRefiner(nn.Module):
    """A trained ``DiffusionRefiner``, binarized or real-valued, folded for inference; ``HiDiff`` takes it in its place.

    Everything that depends on t alone is a table of T rows, BatchNorm is part of scales, biases and thresholds, a sign
    is one comparison. It copies what it needs: later training of the refiner does not change it. It has no parameters
    and passes on no gradient.

    Args:
        refiner: the trained refiner.
        num_timesteps: T, rows of the tables.
        dtype: of signs, weights and sums of the binary convolutions; everything else stays float32. Sums of float32
            (on NVIDIA's tensor cores TF32) are exact. Those of float16 are up to 2048, which 9 * 227 channels cannot
            exceed and larger layers do not in practice; above, even numbers are. Those of bfloat16 are up to 256 only:
            beyond, a sum is off by 0.4 % at most.

    Raises:
        ValueError: if the real-valued twin is to run in half precision, or the dtype is none of the three.
    """

    correction_weight: torch.Tensor
    correction_bias: torch.Tensor
    sample_weight: torch.Tensor
    remainder: torch.Tensor

    @torch.no_grad()
    def __init__(self, refiner: DiffusionRefiner, num_timesteps: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if dtype not in EXACT_UP_TO or (dtype != torch.float32 and not refiner.binarized):
            raise ValueError(
                f"dtype is {dtype}, binarized is {refiner.binarized}; expected torch.float32, or torch.float16 or "
                "torch.bfloat16 for a binarized refiner, whose sums of +-1 they hold"
            )
        self.divisor = refiner.divisor
        self.binarized = refiner.binarized
        self.image_channels = refiner.image_channels
        self.num_targets = refiner.num_targets
        self.num_timesteps = num_timesteps
        self.prior_epsilon = refiner.prior_epsilon
        self.feature_channels: List[int] = list(refiner.feature_channels)
        self.feature_strides: List[int] = list(refiner.feature_strides)
        self.feature_indices: List[int] = list(refiner.feature_indices)
        self.feature_levels: List[int] = list(refiner.feature_levels)
        self._fold_ends(refiner)
        self._fold_levels(refiner, time_embeddings(refiner, num_timesteps), dtype)

    def _fold_ends(self, refiner: DiffusionRefiner) -> None:
        """Input projections and output convolution. The stem's shift goes with the image's share."""
        self.stem_image = _real_input(fold_real(refiner.stem_image, refiner.stem_norm))
        sample_weight = fold_real(refiner.stem_sample, refiner.stem_norm).weight
        self.register_buffer("sample_weight", sample_weight.clone(memory_format=torch.channels_last))
        self.projections = nn.ModuleList(
            _real_input(fold_real(given.conv, given.norm))  # type: ignore[arg-type]
            for given in refiner.projections
        )
        weight, bias = refiner.correction.weight, refiner.correction.bias
        assert bias is not None
        self.register_buffer("correction_weight", weight.detach().clone(memory_format=torch.channels_last))
        self.register_buffer("correction_bias", bias.detach().clone())

    def _fold_levels(self, refiner: DiffusionRefiner, embeddings: torch.Tensor, dtype: torch.dtype) -> None:
        remainder = embeddings.new_zeros(len(embeddings), self.sample_weight.shape[0], 1, 1)
        downs: List[FoldedDownLevel] = []
        ups: List[FoldedUpLevel] = []
        skips: List[torch.Tensor] = []
        for level in refiner.down_levels:
            downs.append(FoldedDownLevel(level, embeddings, remainder, dtype))  # type: ignore[arg-type]
            remainder = downs[-1].basic.remainder
            skips.append(remainder)
        transformer = FoldedCrossTransformer(refiner.cross_transformer, embeddings, remainder, dtype)
        for level, skip in zip(refiner.up_levels, reversed(skips[:-1])):
            ups.append(FoldedUpLevel(level, embeddings, remainder, skip, dtype))  # type: ignore[arg-type]
            remainder = ups[-1].basic.remainder
        self.down_levels, self.up_levels = nn.ModuleList(downs), nn.ModuleList(ups)
        self.cross_transformer = transformer
        self.register_buffer("remainder", remainder.clone())

    def encode_condition(
        self, image: torch.Tensor, prior: torch.Tensor, features: List[torch.Tensor]
    ) -> List[Optional[torch.Tensor]]:
        """As `DiffusionRefiner.encode_condition`, with the prior's logit as a last entry."""
        fitted = fit_features(
            features, self.feature_strides, self.feature_indices, image.shape[2], image.shape[3], self.divisor
        )
        inputs = pad_to_multiple(torch.cat([image.detach(), 2 * prior.detach() - 1], dim=1), self.divisor)
        condition: List[Optional[torch.Tensor]] = [self.stem_image(_channels_last(inputs))]
        for _ in range(len(self.down_levels)):
            condition.append(None)
        for i, projection in enumerate(self.projections):
            condition[self.feature_levels[i] + 1] = projection(_channels_last(fitted[i].detach()))
        condition.append(torch.logit(prior.detach().float(), eps=self.prior_epsilon))
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
            timesteps: t, (B,), integers in [0, T), one and the same for the whole batch, as in the reverse chain.
            prior: f(x); its logit is in the condition already.
            condition: the result of ``encode_condition`` for B' images.

        Returns:
            logit eps_hat, (B, K, H, W).
        """
        if sample.shape[0] == 0:
            return sample.float()
        self.require_one(timesteps)
        t = timesteps[:1]
        stem, logit = condition[0], condition[len(condition) - 1]
        assert stem is not None and logit is not None
        if sample.shape[0] % stem.shape[0] != 0:
            raise ValueError(
                f"sample holds {sample.shape[0]} chains of {stem.shape[0]} images; expected as many of each"
            )
        signs = 2 * sample.detach() - 1
        x = pad_to_multiple(signs, self.divisor).to(stem.dtype, memory_format=torch.channels_last)
        x = F.conv2d(x, self.sample_weight, padding=1)
        by_image(x, stem).add_(stem)
        skips: List[torch.Tensor] = []
        last = len(self.down_levels) - 1
        for i, level in enumerate(self.down_levels):
            x = level(x, t, condition[i + 1] if i < last else None)
            skips.append(x)
        prior_feature = condition[last + 1]
        assert prior_feature is not None
        prior_feature = prior_feature.repeat(sample.shape[0] // stem.shape[0], 1, 1, 1)
        x = self.cross_transformer(x, prior_feature, t)
        for i, level in enumerate(self.up_levels):
            x = level(x, skips[last - 1 - i], t)
        if self.binarized:  # zero padding follows: here the shift cannot be taken along any further
            x = x.add_(self.remainder.index_select(0, t))
        correction = F.conv2d(x, self.correction_weight, self.correction_bias, padding=1)
        correction = correction[:, :, : sample.shape[2], : sample.shape[3]]
        return -signs * (logit + by_image(correction, logit)).flatten(0, 1)

    def require_one(self, timesteps: torch.Tensor) -> None:
        """Refuses several timesteps in one batch; on the CPU only, since a GPU would have to be waited for."""
        if timesteps.device.type == "cpu" and bool((timesteps != timesteps[0]).any()):
            raise ValueError(f"timesteps are {timesteps}; expected one for the whole batch: call each by itself")

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


def _real_input(folded: FoldedInput) -> RealInput:
    """On the device of what was folded, channels last."""
    out_channels, in_channels, kernel_size, _ = folded.weight.shape
    layer = RealInput(in_channels, out_channels, kernel_size)
    layer.to(folded.weight.device, folded.weight.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    layer.fill(folded)
    return layer


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)
