"""Training of retrievers: DPR's recipe as a trainer, a step for loops of your own, a command."""

try:
    import accelerate as _accelerate  # noqa: F401
    import transformers as _transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"tilefold.train needs torch, transformers and accelerate ({error}): "
        'pip install "tilefold[train]"'
    ) from error

from .batches import Batch, Draw
from .objective import Objective, train_step
from .refresh import Refresh
from .trainer import RetrieverTrainer
from .validation import Validation, hold_out

__all__ = [
    "Batch",
    "Draw",
    "Objective",
    "Refresh",
    "RetrieverTrainer",
    "Validation",
    "hold_out",
    "train_step",
]
