"""The form of a network in which a device runs it fastest, chosen from what is there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from hidiff_monai.inferers.captured import CapturedHiDiff
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.networks.folded_refiner import FoldedRefiner

EAGER = "eager"

logger = logging.getLogger(__name__)


class Accelerated(NamedTuple):
    """A network for inference, and the form of its refiner.

    Attributes:
        network: gives what the trained one gives, up to pixels whose sign hangs on the last bit.
        form: "packed (avx512)", "packed (avx2)", "folded", "folded (float16)", "folded (bfloat16)" or "eager".
    """

    network: HiDiff
    form: str


def accelerate(
    network: HiDiff, device: torch.device, dtype: torch.dtype = torch.float32, compiles: bool = False
) -> Accelerated:
    """The network in the form that suits a device; segmentor and scheduler are shared with the one given.

    - CPU: packed signs, where the refiner is binarized and the compiled operators are there; else folded.
    - CUDA: folded, channels last, the chains as CUDA graphs.
    - Anything else, and refiners that are no ``DiffusionRefiner``, or one of a subclass: as it is.

    Args:
        network: trained, on the device.
        device: where it runs.
        dtype: of the binary convolutions on CUDA, see `FoldedRefiner`.
        compiles: on CUDA, passes segmentor and refiner through ``torch.compile``; where that fails, they run as they
            are. Needs minutes at each new shape, so it is for many images of one size.
    """
    network = network.eval()
    if type(network.refiner) is not DiffusionRefiner:  # the other forms know nothing of what a subclass changed
        return Accelerated(network, EAGER)
    if device.type == "cuda":
        folded = _for_cuda(network, dtype if network.refiner.binarized else torch.float32, compiles)
        is_half = dtype != torch.float32 and network.refiner.binarized
        return Accelerated(CapturedHiDiff(folded), f"folded ({str(dtype).split('.')[1]})" if is_half else "folded")
    if device.type == "cpu":
        return _pack(network) or Accelerated(fold(network), "folded")
    return Accelerated(network, EAGER)


def fold(network: HiDiff, dtype: torch.dtype = torch.float32) -> HiDiff:
    """The network with a `FoldedRefiner`; segmentor and scheduler are shared with the one given."""
    return network.with_refiner(FoldedRefiner(network.refiner, network.scheduler.num_train_timesteps, dtype))


def _pack(network: HiDiff) -> Accelerated | None:
    """The packed form, None where it would not be faster."""
    from hidiff_monai import ops  # loads the compiled operators

    status = ops.status()
    is_threaded = status.num_threads == torch.get_num_threads()  # before torch 2.10 the operators have one thread
    if not network.refiner.binarized or status.instruction_set == "torch" or not is_threaded:
        return None
    return Accelerated(network.compile_inference(), f"packed ({status.instruction_set})")


def _for_cuda(network: HiDiff, dtype: torch.dtype, compiles: bool) -> HiDiff:
    folded = fold(network, dtype)
    folded.segmentor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiles:
        folded.segmentor = _Compiled(folded.segmentor)
        folded.refiner.denoise = compile_or_not(folded.refiner.denoise, "refiner")  # type: ignore[method-assign]
    return folded


class _Compiled(nn.Module):
    """A module whose forward pass is compiled, while the module itself stays as it is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.call = compile_or_not(module.forward, "segmentor")

    def forward(self, image: torch.Tensor) -> Any:
        return self.call(image)


def compile_or_not(function: Callable[..., Any], name: str, **options: Any) -> Callable[..., Any]:
    """The function through ``torch.compile``; after a failure, which is logged once, the function itself.

    Args:
        function: what is compiled at its first call.
        name: what a log calls it.
        options: of ``torch.compile``.
    """
    compiled: Callable[..., Any] | None = torch.compile(function, **options)

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        if compiled is not None:
            try:
                return compiled(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # a compiler's errors have no class of their own; a caller's mistake comes again
                logger.warning("the %s is not compiled (%s): it runs as it is", name, type(error).__name__)
                compiled = None
        return function(*args, **kwargs)

    return call
