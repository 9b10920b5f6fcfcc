"""Packed binary operators for inference: ``torch.ops.hidiff_monai.*``, compiled or in plain PyTorch."""

from hidiff_monai.ops.library import INSTRUCTION_SETS, Status, status, use_instruction_set

__all__ = ["INSTRUCTION_SETS", "Status", "status", "use_instruction_set"]
