"""Training engines."""

from hidiff_monai.engines.alternate_collaborative import AlternateCollaborativeTrainer, UpdatePlan
from hidiff_monai.engines.schedules import PolynomialDecay

__all__ = ["AlternateCollaborativeTrainer", "PolynomialDecay", "UpdatePlan"]
