"""What the packed operators take: every mistake is named before anything is read or written."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hidiff_monai.ops.packing import BORDER_CLASSES, LANES

REAL = (torch.float32, torch.float16)
FLOAT = (torch.float32,)
BITS = (torch.int32,)
MOST_UPSAMPLED_WORDS = 65535 // (9 * 32)  # the compiled operators count nine taps in 16 bits


def check_pack_signs(values: torch.Tensor, threshold: torch.Tensor, packed: torch.Tensor) -> None:
    """Raises ValueError unless the arguments are those of `pack_signs`."""
    check_tensor("values", values, REAL, ("B", "H", "W", "C"))
    check_tensor("threshold", threshold, FLOAT, (values.shape[3],), values.device)
    batch, height, width, channels = values.shape
    check_packed("packed", packed, batch, height, width, channels, values.device)


def check_binary_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    extra: torch.Tensor | None,
    extra_weight: torch.Tensor | None,
    base: torch.Tensor,
    kernel_size: int,
    stride: int,
    upsample: bool,
    scale: torch.Tensor,
    bias: torch.Tensor,
    shortcut: torch.Tensor | None,
    slope: torch.Tensor | None,
    zeta: torch.Tensor | None,
    out: torch.Tensor | None,
    threshold: torch.Tensor | None,
    packed: torch.Tensor | None,
    skip_threshold: torch.Tensor | None,
    skip_packed: torch.Tensor | None,
) -> None:
    """Raises ValueError unless the arguments are those of `binary_conv2d`."""
    check_tensor("x", x, BITS, ("B", "H + 2p", "W + 2p", "words"))
    device = x.device
    _check_geometry(kernel_size, stride, upsample)
    batch, height, width = _source_size(x, kernel_size)
    check_tensor("base", base, BITS, (BORDER_CLASSES, "O"), device)
    channels = base.shape[1]
    groups, taps = -(-channels // LANES), kernel_size**2
    check_tensor("weight", weight, BITS, (groups, taps, x.shape[3], LANES), device)
    if upsample and x.shape[3] > MOST_UPSAMPLED_WORDS:
        raise ValueError(f"x has {x.shape[3]} words a pixel; expected at most {MOST_UPSAMPLED_WORDS} with upsample")
    if upsample:
        height, width = 2 * height, 2 * width
    if (extra is None) != (extra_weight is None):
        raise ValueError("one of extra and extra_weight is given; expected both, or neither")
    if extra is not None and extra_weight is not None:
        border = 2 * (kernel_size // 2)
        check_tensor("extra", extra, BITS, ("B", height + border, width + border, "words"), device)
        if batch % extra.shape[0]:
            raise ValueError(f"extra holds {extra.shape[0]} images beside {batch} of x; expected a divisor")
        check_tensor("extra_weight", extra_weight, BITS, (groups, taps, extra.shape[3], LANES), device)
    height, width = (height - 1) // stride + 1, (width - 1) // stride + 1
    for name, vector in (("scale", scale), ("bias", bias), ("slope", slope), ("zeta", zeta)):
        if vector is not None:
            check_tensor(name, vector, FLOAT, (channels,), device)
    if out is None and packed is None and skip_packed is None:
        raise ValueError("none of out, packed and skip_packed is given; expected something to write to")
    if shortcut is not None:
        _check_shortcut(shortcut, (batch, height, width, channels), device)
    if out is not None:
        check_tensor("out", out, REAL, (batch, height, width, channels), device)
        _check_alias(shortcut, out)
    for name, level, bits in (("", threshold, packed), ("skip_", skip_threshold, skip_packed)):
        if bits is not None:
            if level is None:
                raise ValueError(f"{name}packed is given without {name}threshold; expected both")
            check_tensor(f"{name}threshold", level, FLOAT, (channels,), device)
            check_packed(f"{name}packed", bits, batch, height, width, channels, device)


def check_stem_conv2d(
    signs: torch.Tensor,
    weight: torch.Tensor,
    share: torch.Tensor,
    out: torch.Tensor | None,
    threshold: torch.Tensor,
    packed: torch.Tensor,
) -> None:
    """Raises ValueError unless the arguments are those of `stem_conv2d`."""
    check_tensor("signs", signs, FLOAT, ("B", "K", "H", "W"))
    batch, targets, height, width = signs.shape
    check_tensor("weight", weight, FLOAT, (9, targets, "C"), signs.device)
    channels = weight.shape[2]
    check_tensor("share", share, REAL, ("B", height, width, channels), signs.device)
    if batch % share.shape[0]:
        raise ValueError(f"share holds {share.shape[0]} images beside {batch} of signs; expected a divisor")
    if out is not None:
        check_tensor("out", out, REAL, (batch, height, width, channels), signs.device)
    check_tensor("threshold", threshold, FLOAT, (channels,), signs.device)
    check_packed("packed", packed, batch, height, width, channels, signs.device)


def check_head_conv2d(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    """Raises ValueError unless the arguments are those of `head_conv2d`."""
    check_tensor("values", values, REAL, ("B", "H", "W", "C"))
    batch, height, width, channels = values.shape
    check_tensor("weight", weight, FLOAT, ("K", 9, channels), values.device)
    check_tensor("bias", bias, FLOAT, (weight.shape[0],), values.device)
    check_tensor("out", out, FLOAT, (batch, weight.shape[0], height, width), values.device)


def check_tensor(
    name: str,
    tensor: torch.Tensor,
    dtypes: Sequence[torch.dtype],
    shape: Sequence[int | str],
    device: torch.device | None = None,
) -> None:
    """Raises ValueError unless the tensor has one of the types, the shape (a name stands for any size) and lies packed.

    Args:
        name: the argument's, for the message.
        tensor: what was given.
        dtypes: those allowed.
        shape: a number where the size is fixed.
        device: where it has to be; None for anywhere.
    """
    if tensor.dtype not in dtypes:
        expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}; expected {expected}")
    fits = len(tensor.shape) == len(shape) and all(
        isinstance(expected, str) or got == expected for got, expected in zip(tensor.shape, shape, strict=True)
    )
    if not fits or tensor.numel() == 0:
        shown = ", ".join(str(size) for size in shape)
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected ({shown}), none of them 0")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} of shape {tuple(tensor.shape)} is not contiguous; expected it so: call contiguous()")
    if device is not None and tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, the first argument on {device}; expected one device for all")


def check_packed(
    name: str, packed: torch.Tensor, batch: int, height: int, width: int, channels: int, device: torch.device
) -> None:
    """Raises ValueError unless ``packed`` holds maps of that size, with or without a border."""
    border = 1 if packed.dim() == 4 and packed.shape[1] == height + 2 else 0
    words = -(-channels // 32)
    check_tensor(name, packed, BITS, (batch, height + 2 * border, width + 2 * border, words), device)


def _check_geometry(kernel_size: int, stride: int, upsample: bool) -> None:
    if (kernel_size, stride) not in ((1, 1), (3, 1), (3, 2)):
        raise ValueError(f"kernel_size is {kernel_size}, stride {stride}; expected 1 and 1, 3 and 1, or 3 and 2")
    if upsample and (kernel_size, stride) != (3, 1):
        raise ValueError(f"upsample with kernel_size {kernel_size}, stride {stride}; expected 3 and 1")


def _source_size(x: torch.Tensor, kernel_size: int) -> tuple[int, int, int]:
    border = kernel_size // 2
    height, width = x.shape[1] - 2 * border, x.shape[2] - 2 * border
    if height < 1 or width < 1:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected at least a pixel within a border of {border}")
    return x.shape[0], height, width


def _check_shortcut(shortcut: torch.Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    batch, height, width, channels = shape
    check_tensor("shortcut", shortcut, REAL, (batch, "h", "w", "C"), device)
    rows, columns, given = shortcut.shape[1:]
    sizes = [(height, width), (2 * height, 2 * width)]
    if height % 2 == 0 and width % 2 == 0:
        sizes.append((height // 2, width // 2))
    if (rows, columns) not in sizes:
        raise ValueError(f"shortcut is {rows} x {columns}; expected one of {sizes} for a result of {height} x {width}")
    if max(given, channels) % min(given, channels):
        raise ValueError(f"shortcut has {given} channels, the result {channels}; expected one a multiple of the other")


def _check_alias(shortcut: torch.Tensor | None, out: torch.Tensor) -> None:
    if shortcut is None or shortcut.untyped_storage().data_ptr() != out.untyped_storage().data_ptr():
        return
    same = shortcut.shape == out.shape and shortcut.dtype == out.dtype and shortcut.data_ptr() == out.data_ptr()
    if not same and _overlaps(shortcut, out):
        raise ValueError("out overlaps shortcut, which has another place or shape; expected the same map, or another")


def _overlaps(one: torch.Tensor, other: torch.Tensor) -> bool:
    ends = [(x.data_ptr(), x.data_ptr() + x.numel() * x.element_size()) for x in (one, other)]
    return ends[0][0] < ends[1][1] and ends[1][0] < ends[0][1]
