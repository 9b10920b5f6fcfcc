"""What a refiner costs: multiply-adds and storage, binary and real-valued apart (the paper's Table XI)."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .complexity_report import ComplexityReport, Operations, Storage

FLOAT_BYTES = 4


def complexity(refiner: nn.Module, image_size: tuple[int, int] = (256, 256), num_steps: int = 10) -> ComplexityReport:
    """Counts a ``DiffusionRefiner`` by a dry run without data or arithmetic (on PyTorch's meta device).

    Args:
        refiner: the refiner, binarized or real-valued; it is left as it is.
        image_size: (H, W) in pixels.
        num_steps: steps of the reverse chain, which is also the number of rows of the tables over t.

    Raises:
        ValueError: when ``image_size`` or ``num_steps`` is not positive.
    """
    if min(image_size) < 1 or num_steps < 1:
        raise ValueError(f"image_size is {image_size}, num_steps {num_steps}; expected numbers of at least 1")
    twin: Any = copy.deepcopy(refiner).to("meta").eval()
    counter = _Counter(twin)
    height, width = image_size
    prior = torch.zeros(1, twin.num_targets, height, width, device="meta")
    image = torch.zeros(1, twin.image_channels, height, width, device="meta")
    features = [
        torch.zeros(1, channels, -(-height // stride), -(-width // stride), device="meta")
        for channels, stride in zip(twin.feature_channels, twin.feature_strides, strict=True)
    ]
    with torch.no_grad():
        condition = twin.encode_condition(image, prior, features)
        per_image = counter.take()
        twin.denoise(prior, torch.zeros(1, dtype=torch.long, device="meta"), prior, condition)
        step_parts = counter.take()
    binary = sum(module.weight.numel() for module in twin.modules() if _is_binary(module))
    return ComplexityReport(
        image_size=(height, width),
        num_steps=num_steps,
        real_parameters=sum(parameter.numel() for parameter in twin.parameters()) - binary,
        binary_parameters=binary,
        storage=_storage(twin, num_steps),
        per_image=sum(per_image.values(), Operations()),
        per_step=sum(step_parts.values(), Operations()),
        step_parts=step_parts,
    )


class _Counter:
    """Adds up what the layers of a refiner do, by part, until it is taken."""

    def __init__(self, refiner: nn.Module) -> None:
        self.operations: defaultdict[str, Operations] = defaultdict(Operations)
        tabulated = _time_layers(refiner)
        for name, module in refiner.named_modules():
            pieces = name.split(".")
            part = ".".join(pieces[:2]) if len(pieces) > 1 and pieces[1].isdigit() else pieces[0]
            if hasattr(module, "num_heads"):
                module.register_forward_hook(self._hook(part, _attention))
            elif _has_matrix(module) and module not in tabulated:
                module.register_forward_hook(self._hook(part, _product))

    def take(self) -> dict[str, Operations]:
        taken, self.operations = dict(self.operations), defaultdict(Operations)
        return taken

    def _hook(self, part: str, count: Callable[..., Operations]) -> Callable[..., None]:
        def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.operations[part] += count(module, inputs, output)

        return add


def _product(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Operations:
    """Convolution or linear layer: each output value sums over one output channel's weights."""
    number = output.numel() * module.weight[0].numel()
    return Operations(binary=number) if _is_binary(module) else Operations(real=number)


def _attention(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Operations:
    """Q K^T, binary where queries and keys are, and the real-valued softmax times V: N M C each."""
    tokens, context = inputs[0], inputs[1]
    number = tokens.numel() * context.shape[1]
    is_binary = module.binarize_query is not None
    return Operations(real=number, binary=number) if is_binary else Operations(real=2 * number)


def _storage(refiner: nn.Module, num_steps: int) -> Storage:
    rows = _time_layers(refiner)
    binary = scales = real = 0
    for module in set(refiner.modules()) - set(rows):
        if _is_binary(module):
            binary += -(-module.weight.numel() // 8)  # type: ignore[operator]
            scales += len(module.weight)  # type: ignore[arg-type]
        else:
            real += sum(parameter.numel() for parameter in module.parameters(recurse=False))
    table = num_steps * sum(rows.values())
    return Storage(binary, scales * FLOAT_BYTES, real * FLOAT_BYTES, table * FLOAT_BYTES)


def _time_layers(refiner: nn.Module) -> dict[nn.Module, int]:
    """The linear layers that see t alone, and the values each adds to a table's row (the embedding's own none)."""
    layers: dict[nn.Module, int] = {}
    for module in refiner.modules():
        kind = type(module).__name__
        if kind.startswith("Time"):
            linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
            layers.update((layer, 0 if kind == "TimeEmbedding" else layer.out_features) for layer in linear)
    return layers


def _has_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() >= 2


def _is_binary(module: nn.Module) -> bool:
    return type(module).__name__.startswith("Binary") and _has_matrix(module)
