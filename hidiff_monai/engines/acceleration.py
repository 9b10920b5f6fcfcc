"""What makes a training step faster and leaves what it computes as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def prefers_channels_last(device: torch.device) -> bool:
    """Whether a training step is faster with the channels innermost: not on a CPU without AVX-512.

    With AVX2 oneDNN's backward passes are slower on such maps; docs/performance.md has the ratio.
    """
    return device.type != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability()


def lay_channels_last(*networks: nn.Module) -> None:
    """Stores convolutions' weights with the channels innermost; values, names and shapes stay.

    Convolutions, BatchNorm and pooling hand on such maps as they lie.
    """
    for network in networks:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_forwards(device: torch.device, *networks: nn.Module) -> None:
    """Compiles the networks' forward passes in place, at their first use; names in the state dict stay.

    Raises:
        ValueError: when there is no compiler that works for this device.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:
        raise ValueError(
            f"compile_networks is True, but torch.compile fails on {device} ({type(error).__name__}: "
            f"{str(error).strip().partition(chr(10))[0]}); expected a C++ compiler on a CPU, Triton on a GPU: install "
            "it (apt install g++), or set train#trainer#compile_networks to false"
        ) from error
    for network in networks:
        network.compile()


def gradient_scaler(device: torch.device, amp: bool, amp_kwargs: dict[str, Any]) -> torch.amp.GradScaler | None:
    """A scaler where gradients may underflow, in float16 on a GPU; bfloat16 has float32's range and needs none."""
    if not amp or device.type != "cuda":
        return None
    dtype = amp_kwargs.get("dtype") or torch.get_autocast_dtype("cuda")
    return torch.amp.GradScaler("cuda") if dtype == torch.float16 else None
