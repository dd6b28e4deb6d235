"""Target tasks: MMLU and PopQA, their prompts, examples and figures."""

from ...data import ranked_passages
from .few_shot import mmlu_demonstrations, popqa_demonstrations
from .mmlu_task import MmluTask
from .popqa_task import PopqaTask
from .retrieved_passages import mmlu_passages
from .task_result import TaskResult

__all__ = [
    "MmluTask",
    "PopqaTask",
    "TaskResult",
    "mmlu_demonstrations",
    "mmlu_passages",
    "popqa_demonstrations",
    "ranked_passages",
]
