"""Makes a segmentor of any network by naming the layers whose features are tapped."""

import copy
from typing import List, Optional, Sequence, Tuple, Union

import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.padding import pad_to_multiple
from hidiff_monai.segmentors.base import SegmentorOutput
from hidiff_monai.segmentors.tapping import TappedNetwork, evaluating


class SegmentorAdapter(nn.Module):
    """Any network as segmentor: its mask logits, and the outputs of some of its layers as features.

    The network is run once, in evaluation mode on a zero image, to find the features' channels and strides. Images are
    padded to multiples of ``divisor``; logits coarser or finer than the image are resized to it (bilinear).

    ``torch.jit.script`` of the adapter, or of a ``HiDiff`` that holds it, traces the network in evaluation mode at
    ``example_size``. Padding, cropping and the sampling loop stay dynamic; the network takes other sizes and batch
    sizes as far as its own code does not turn a size into a Python number or a branch: compare with eager on an image
    of another size before use. Scripting puts the traced network into the module that was scripted: script a
    ``copy.deepcopy`` of a network that is still to be trained.

    Args:
        network: image (B, C, H, W) -> logits (B, K, H, W), or a dictionary, tuple or list that holds them.
        feature_layers: names of layers as in ``network.named_modules()``, each giving (B, C_i, H/stride, W/stride) at
            another stride; the refiner wants 4, 8, 16 and 32.
        image_channels: C.
        output: key or index of the logits where the network returns several things.
        example_size: (H, W) of the zero image; a multiple of all strides that the network can take.
        divisor: height and width of images are padded to multiples of this; the coarsest stride when None.

    Attributes:
        feature_layers: the names, finest feature first.
        feature_channels: channels of the features, in that order.
        feature_strides: their strides.

    Raises:
        ValueError: when a layer is unknown, does not run, or does not give one map at a stride of its own; when
            ``output`` does not lead to logits.
    """

    def __init__(
        self,
        network: nn.Module,
        feature_layers: Sequence[str],
        image_channels: int = 3,
        output: Optional[Union[int, str]] = None,
        example_size: Tuple[int, int] = (64, 64),
        divisor: Optional[int] = None,
    ) -> None:
        super().__init__()
        parameter = next(network.parameters(), torch.zeros(1))
        example = parameter.new_zeros(1, image_channels, *example_size)
        with evaluating(network), torch.no_grad():
            _, features = TappedNetwork(network, feature_layers, output, example)(example)
        strides = [_stride(name, feature, example) for name, feature in zip(feature_layers, features)]
        if len(set(strides)) < len(strides):
            raise ValueError(
                f"the layers {list(feature_layers)} have strides {strides}; expected another stride each: name one "
                "layer per stride"
            )
        order = sorted(range(len(strides)), key=lambda i: strides[i])
        self.feature_layers: List[str] = [feature_layers[i] for i in order]
        self.feature_channels: List[int] = [features[i].shape[1] for i in order]
        self.feature_strides: List[int] = [strides[i] for i in order]
        self.divisor: int = divisor or self.feature_strides[-1]
        self.tapped: nn.Module = TappedNetwork(network, self.feature_layers, output, example)

    def forward(self, image: torch.Tensor) -> SegmentorOutput:
        """Image (B, C, H, W) of any size -> logits (B, K, H, W) and features of the padded image, finest first."""
        padded = pad_to_multiple(image, self.divisor)
        logits, features = self.tapped(padded)
        if logits.shape[2:] != padded.shape[2:]:
            logits = F.interpolate(
                logits, size=[padded.shape[2], padded.shape[3]], mode="bilinear", align_corners=False
            )
        return SegmentorOutput(logits[:, :, : image.shape[2], : image.shape[3]], features)

    def for_export(self, example_image: Optional[torch.Tensor] = None) -> "SegmentorAdapter":
        """A copy with the network traced, in evaluation mode; it shares the parameters, and needs no hooks.

        Args:
            example_image: (B, C, H, W) to trace with, sizes multiples of ``divisor``; zeros when None. Trace with a
                typical image where the network's code depends on values or sizes.
        """
        if not isinstance(self.tapped, TappedNetwork):
            return self
        image = self.tapped.example_image if example_image is None else example_image
        exported = copy.copy(self)
        exported._modules = {"tapped": self.tapped.traced(pad_to_multiple(image, self.divisor))}
        return exported


def _stride(name: str, feature: torch.Tensor, image: torch.Tensor) -> int:
    rows, columns = image.shape[2] / feature.shape[2], image.shape[3] / feature.shape[3]
    if rows != columns or rows != int(rows):
        raise ValueError(
            f"layer '{name}' gave {tuple(feature.shape)} for an image of {tuple(image.shape)}; expected (B, C, "
            "H/stride, W/stride): name another layer, or make example_size a multiple of the network's strides"
        )
    return int(rows)
