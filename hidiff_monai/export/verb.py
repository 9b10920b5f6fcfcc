"""The verb ``hidiff export``; it imports what it needs when it is called."""

from __future__ import annotations

from typing import Any


def export(
    bundle: str,
    output: str,
    format: str,
    checkpoint: str | None = None,
    image: str | None = None,
    packed: bool = False,
    **overrides: Any,
) -> None:
    """Writes a bundle's network, sampling loop included, as one file, and runs it in a process without this package.

    Args:
        bundle: the bundle's folder, for example bundles/drive.
        output: the file that is written, for example drive.onnx.
        format: ts (TorchScript), onnx or pt2 (torch.export).
        checkpoint: the weights; the bundle's models/model.pt, or what its training wrote, where it is left out.
        image: a photograph or scan to try the file on; made-up input where it is left out.
        packed: TorchScript of the packed refiner; a program that loads it loads the compiled operators first.
        overrides: any key of the bundle's inference configuration, for example --num_inference_steps 3.
    """
    from hidiff_monai.export.command import export_bundle

    print(export_bundle(bundle, str(output), str(format), checkpoint, image, packed, overrides))
