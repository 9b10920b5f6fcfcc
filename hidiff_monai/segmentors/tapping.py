"""Taps named layers of any network while it runs, and finds out what they give."""

import difflib
import textwrap
import threading
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from torch import nn


class TappedNetwork(nn.Module):
    """Runs a network and returns, beside its logits, what the named layers gave.

    The hooks live only as long as one call and write into a dictionary of that call, so a deep copy taps its own
    layers and calls from several threads do not mix. ``torch.jit.script`` traces this module in evaluation mode with
    ``example_image``, since hooks cannot be scripted.

    Args:
        network: any module that takes an image (B, C, H, W).
        layers: names of its layers, as in ``network.named_modules()``.
        output: key or index of the logits where the network returns a dictionary, tuple or list.
        example_image: an image the network takes, for tracing.

    Raises:
        ValueError: when a layer is unknown; when called, if one does not give exactly one map (B, C, h, w).
    """

    example_image: torch.Tensor

    def __init__(
        self, network: nn.Module, layers: Sequence[str], output: Optional[Union[int, str]], example_image: torch.Tensor
    ) -> None:
        super().__init__()
        check_layer_names(network, layers)
        self.network = network
        self.layers: List[str] = list(layers)
        self.output = output
        self.register_buffer("example_image", example_image, persistent=False)

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """Image (B, C, H, W) -> logits (B, K, H', W'), and one map per layer, in the order of ``layers``."""
        tapped: Dict[str, List[Any]] = {name: [] for name in self.layers}
        with ExitStack() as hooks:
            for name in self.layers:
                hooks.enter_context(_tap(self.network.get_submodule(name), tapped[name]))
            result = self.network(image)
        return pick_logits(result, self.output), [single_map(name, tapped[name]) for name in self.layers]

    def __prepare_scriptable__(self) -> nn.Module:  # torch.jit.script asks for this, also deep inside other modules
        return self.traced(self.example_image)

    def traced(self, image: torch.Tensor) -> nn.Module:
        """The same in TorchScript, traced in evaluation mode; parameters are shared."""
        with evaluating(self), torch.no_grad():
            return torch.jit.trace(self, image, strict=False, check_trace=False)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again afterwards."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


@contextmanager
def _tap(layer: nn.Module, outputs: List[Any]) -> Iterator[None]:
    thread = threading.get_ident()

    def note(module: nn.Module, inputs: Any, result: Any) -> None:
        if threading.get_ident() == thread:
            outputs.append(result)

    handle = layer.register_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()


def check_layer_names(network: nn.Module, layers: Sequence[str]) -> None:
    """Raises a ValueError with near matches and all names where the network lacks one of ``layers``."""
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    unknown = [name for name in layers if name not in names]
    if not layers or unknown:
        near = sorted({match for name in unknown for match in difflib.get_close_matches(name, names, 3, cutoff=0.5)})
        every = textwrap.shorten(", ".join(names), 2000, placeholder=" ... (see network.named_modules())")
        raise ValueError(
            f"feature_layers names {unknown or 'nothing'}; expected layers of {type(network).__name__}. Near matches: "
            f"{near or 'none'}. Its layers: {every}"
        )


def single_map(name: str, outputs: Sequence[Any]) -> torch.Tensor:
    """The one feature map that layer ``name`` gave; a ValueError where it gave none, several, or something else."""
    if not outputs:
        raise ValueError(f"layer '{name}' did not run; name one that the network calls for every image")
    first = outputs[0]
    if not isinstance(first, torch.Tensor) or first.dim() != 4:
        raise ValueError(f"layer '{name}' gave {describe(first)}; expected one tensor (B, C, h, w): name another layer")
    if any(not torch.equal(first, other) for other in outputs[1:]):
        raise ValueError(
            f"layer '{name}' ran {len(outputs)} times for one image, with different results; name one that runs once"
        )
    return first


def pick_logits(result: Any, output: Optional[Union[int, str]]) -> torch.Tensor:
    """The logits in a network's result: the result itself, or its item ``output``."""
    keys: List[Any] = []
    if isinstance(result, (dict, tuple, list)):
        keys = list(result) if isinstance(result, dict) else list(range(len(result)))
    if output is not None and output not in keys:
        raise ValueError(f"output is {output!r}, but the network returned {describe(result)}; expected one of {keys}")
    logits = result if output is None else result[output]
    if not isinstance(logits, torch.Tensor) or logits.dim() != 4:
        hint = f"set 'output' to one of {keys}" if keys else "wrap the network so that it returns them"
        raise ValueError(f"the network returned {describe(logits)}; expected logits (B, K, H, W): {hint}")
    return logits


def describe(value: Any) -> str:
    """A value's type, and the shape, keys or length it has, for messages."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a {type(value).__name__} with keys {list(value)}"
    return f"a {type(value).__name__}" + (f" of length {len(value)}" if hasattr(value, "__len__") else "")
