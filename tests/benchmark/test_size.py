"""The counts of the packed refiner against the operators that really run."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from hidiff_monai.benchmark.forms import PACKED, TWIN, Chain, make_form
from hidiff_monai.benchmark.models import make_inputs
from hidiff_monai.benchmark.settings import Settings
from hidiff_monai.benchmark.size import measure_size
from hidiff_monai.metrics import Operations

WIDTH, SIZE = 32, 64  # whole words


class Counter(TorchDispatchMode):
    """Adds up multiply-adds from the shapes of what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = Operations()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().split(".")[0]
        if name == "hidiff_monai::binary_conv2d":
            x, weight, extra, extra_weight, base, kernel_size, stride, upsample = args[:8]
            height, width = (size - 2 * (kernel_size // 2) for size in x.shape[1:3])
            bits = base.shape[1] * kernel_size**2 * 32
            pixels = x.shape[0] * -(-height // stride) * -(-width // stride)
            self.operations += Operations(binary=pixels * bits * weight.shape[2])  # low resolution where enlarged
            if extra is not None:
                pixels *= 4 if upsample else 1
                self.operations += Operations(binary=pixels * bits * extra_weight.shape[2])
        elif name in ("hidiff_monai::stem_conv2d", "hidiff_monai::head_conv2d"):
            pixels = args[0].numel() // args[1].shape[1 if "stem" in name else 2]
            self.operations += Operations(real=pixels * args[1].numel())
        elif name == "aten::convolution":
            self.operations += Operations(real=result.numel() * args[1][0].numel())
        elif name == "aten::bmm":  # attention on few tokens
            self.operations += Operations(real=result.numel() * args[0].shape[2])
        elif name.startswith("aten::_scaled_dot_product"):
            self.operations += Operations(real=2 * args[0].numel() * args[1].shape[2])
        return result


def count(name: str) -> Operations:
    chain = Chain(make_form(name, WIDTH), make_inputs(1, SIZE, WIDTH))
    with Counter() as counter:
        chain.run(1)
    return counter.operations


def test_operations_are_those_that_run() -> None:
    size = measure_size(Settings(width=WIDTH, image_size=SIZE))
    packed, twin = count(PACKED), count(TWIN)
    assert (size["real_per_step"], size["binary_per_step"]) == (packed.real, packed.binary)
    assert size["twin_operations_per_step"] == twin.real
    assert size["twin_ratio"] == twin.total / packed.total


def test_the_file_holds_a_bit_a_weight() -> None:
    size = measure_size(Settings(width=WIDTH, image_size=SIZE))
    weights = sum(
        one.numel() for name, one in make_form(PACKED, WIDTH).refiner.state_dict().items() if "weight" in name
    )
    assert 4 * weights < size["file_bytes"] < 20 * weights
    assert f"{size['file_bytes'] / 1e6:.2f} MB" in size["text"][-1]
