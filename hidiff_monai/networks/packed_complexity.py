"""What a packed refiner really computes, counted from its own weights."""

from collections import defaultdict
from typing import Dict, List, NamedTuple, Tuple

from hidiff_monai.metrics.complexity_report import Operations
from hidiff_monai.networks.packed_layers import PackedConv
from hidiff_monai.networks.packed_refiner import PackedRefiner
from hidiff_monai.ops.packing import WORD_BITS


class PackedComplexity(NamedTuple):
    """Multiply-adds of one image, without pointwise work; operations are real + binary / 64.

    Attributes:
        per_image: computed once, whatever the number of steps.
        per_step: computed in every step of a chain. Binary: XNOR and popcount, channels filled up to whole words and
            lanes; where nearest x2 precedes a convolution, a quarter of its signs.
        step_parts: ``per_step`` by part of the refiner.
        real_twin: of the real-valued twin, per step.
    """

    per_image: Operations
    per_step: Operations
    step_parts: Dict[str, Operations]
    real_twin: Operations

    @property
    def ratio(self) -> float:
        """How many times more operations the real-valued twin needs in a step."""
        return self.real_twin.total / self.per_step.total


def packed_complexity(refiner: PackedRefiner, image_size: Tuple[int, int] = (256, 256)) -> PackedComplexity:
    """Counts a packed refiner at one image size.

    Args:
        refiner: the refiner.
        image_size: (H, W) in pixels; it is padded to a multiple of the bottleneck's stride.

    Raises:
        ValueError: when ``image_size`` is not positive.
    """
    if min(image_size) < 1:
        raise ValueError(f"image_size is {image_size}; expected numbers of at least 1")
    height, width = (size + -size % refiner.divisor for size in image_size)
    pixels = [(height >> i) * (width >> i) for i in range(len(refiner.channels))]
    parts: Dict[str, Operations] = defaultdict(Operations)
    twin = 0
    for name, layer in refiner.named_modules():
        if isinstance(layer, PackedConv):
            part, number = _place(name, pixels)
            parts[part] += Operations(binary=_products(layer, number))
            twin += number * layer.kernel_size**2 * (layer.in_channels + layer.extra_channels) * layer.out_channels
    attention = 2 * 2 * pixels[-1] ** 2 * refiner.channels[-1]  # two blocks; Q K^T and softmax times V, in floats
    ends = 9 * pixels[0] * refiner.num_targets * refiner.channels[0]
    for part, number in (("cross_transformer", attention), ("stem_sample", ends), ("correction", ends)):
        parts[part] += Operations(real=number)
        twin += number
    per_image = 9 * pixels[0] * (refiner.image_channels + refiner.num_targets) * refiner.channels[0]
    for level, projection in zip(refiner.feature_levels, refiner.projections):
        per_image += pixels[level] * projection.weight.numel()  # type: ignore[operator]
    total = sum(parts.values(), Operations())
    return PackedComplexity(Operations(real=per_image), total, dict(parts), Operations(real=twin))


def _place(name: str, pixels: List[int]) -> Tuple[str, int]:
    """Of a layer: the part that it belongs to, and the pixels of its output."""
    pieces = name.split(".")
    if pieces[0] == "cross_transformer":
        return pieces[0], pixels[-1]
    index = int(pieces[1])
    level = index if pieces[0] == "down_levels" else len(pixels) - 2 - index
    return ".".join(pieces[:2]), pixels[level]


def _products(layer: PackedConv, pixels: int) -> int:
    """Bits that are compared: each weight's once per output pixel, per input pixel where nearest x2 precedes."""
    bits = layer.weight.numel() * WORD_BITS * pixels // (4 if layer.upsamples else 1)
    if layer.extra_weight is not None:
        bits += layer.extra_weight.numel() * WORD_BITS * pixels
    return bits
