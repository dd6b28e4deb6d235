"""Reports of trainings: curves, measures before and after, settings and versions."""

from .training_page import training_report
from .training_record import TrainingRecord

__all__ = ["TrainingRecord", "training_report"]
