"""A bundle's joint module, sampling loop included, as TorchScript, ONNX or torch.export program."""

from hidiff_monai.export.command import export_bundle
from hidiff_monai.export.plain import plain_copy

__all__ = ["export_bundle", "plain_copy"]
