"""Training of retrievers: trainer, step for hand-written loops, objectives, drawing policies."""

try:
    import accelerate as _accelerate  # noqa: F401
    import transformers as _transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"tilefold.train needs torch, transformers and accelerate ({error}): "
        'pip install "tilefold[train]"'
    ) from error

from .batches import Batch, CoarseEmbeddings, TeacherScores
from .document_views import DrawWindows
from .drawing import Draw, DrawingPolicy
from .evaluators import Evaluator, HeldOutLoss, RankingEvaluator
from .gradient_step import train_step
from .objectives import (
    ContrastiveObjective,
    DistillationObjective,
    InvarianceObjective,
    Objective,
    ObjectiveLoss,
    PreferenceObjective,
    RepresentationMask,
    RepresentationObjective,
    WeightedObjective,
)
from .policy_inputs import PolicyInputs
from .query_views import DrawViews
from .refresh import Refresh
from .report_callback import ReportCallback
from .rotating_negatives import DrawRotating
from .schedule import Schedule
from .several_positives import DrawSeveral
from .teacher_policy import DrawTeacher
from .trainer import RetrieverTrainer
from .validation import Validation, hold_out

__all__ = [
    "Batch",
    "CoarseEmbeddings",
    "ContrastiveObjective",
    "DistillationObjective",
    "Draw",
    "DrawRotating",
    "DrawSeveral",
    "DrawTeacher",
    "DrawViews",
    "DrawWindows",
    "DrawingPolicy",
    "Evaluator",
    "HeldOutLoss",
    "InvarianceObjective",
    "Objective",
    "ObjectiveLoss",
    "PolicyInputs",
    "PreferenceObjective",
    "RankingEvaluator",
    "Refresh",
    "ReportCallback",
    "RepresentationMask",
    "RepresentationObjective",
    "RetrieverTrainer",
    "Schedule",
    "TeacherScores",
    "Validation",
    "WeightedObjective",
    "hold_out",
    "train_step",
]
