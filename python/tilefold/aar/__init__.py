"""AAR: a retriever that learns from the preferences of a source LM (Yu et al., ACL 2023).

`preferences` scores passages as a source LM prefers them, `positives` makes training sets of them,
`targets` are language models to be served, `tasks` measure their answers, and `baselines` are what
the paper compares with.
"""

from __future__ import annotations

try:
    import torch as torch
    import transformers as transformers
except ImportError as error:
    raise ImportError(
        f'tilefold.aar needs torch and transformers ({error}): pip install "tilefold[train]"'
    ) from error

from .baselines import (
    GENERATED_TOKENS,
    AdaptiveResult,
    AnsweredQuestions,
    DeletionEffect,
    TransformerShape,
    adaptive_retrieval,
    answer_deletion,
    causal_flops,
    compare_losses,
    decoding_flops,
    delete_answers,
    delete_from_passages,
    encoding_flops,
    fusion_flops,
    generated_passages,
    popularity_threshold,
    popularity_thresholds,
    scoring_flops,
    task_documents,
)
from .positives import (
    MergedPositives,
    Origin,
    OverlapMatrix,
    PreferenceData,
    PreferenceNegatives,
    TrainingQueries,
    merge_positives,
    overlap_matrix,
    preference_data,
    preference_negatives,
    preference_overlap,
    preferred_passages,
)
from .preferences import (
    AnswerLikelihood,
    CausalAttention,
    FusedAttention,
    GradedPerplexityReduction,
    LeaveOneOut,
    PerplexityDistillation,
    PreferenceSignal,
)
from .targets import (
    AnswerCache,
    ApiError,
    CompletionsService,
    ConcatenatedTarget,
    FusedTarget,
    ScoredApi,
    TargetLM,
)
from .tasks import (
    MmluTask,
    PopqaTask,
    TaskResult,
    mmlu_demonstrations,
    mmlu_passages,
    popqa_demonstrations,
    ranked_passages,
)

__all__ = [
    "GENERATED_TOKENS",
    "AdaptiveResult",
    "AnswerCache",
    "AnswerLikelihood",
    "AnsweredQuestions",
    "ApiError",
    "CausalAttention",
    "CompletionsService",
    "ConcatenatedTarget",
    "DeletionEffect",
    "FusedAttention",
    "FusedTarget",
    "GradedPerplexityReduction",
    "LeaveOneOut",
    "MergedPositives",
    "MmluTask",
    "Origin",
    "OverlapMatrix",
    "PerplexityDistillation",
    "PopqaTask",
    "PreferenceData",
    "PreferenceNegatives",
    "PreferenceSignal",
    "ScoredApi",
    "TargetLM",
    "TaskResult",
    "TrainingQueries",
    "TransformerShape",
    "adaptive_retrieval",
    "answer_deletion",
    "causal_flops",
    "compare_losses",
    "decoding_flops",
    "delete_answers",
    "delete_from_passages",
    "encoding_flops",
    "fusion_flops",
    "generated_passages",
    "merge_positives",
    "mmlu_demonstrations",
    "mmlu_passages",
    "overlap_matrix",
    "popqa_demonstrations",
    "popularity_threshold",
    "popularity_thresholds",
    "preference_data",
    "preference_negatives",
    "preference_overlap",
    "preferred_passages",
    "ranked_passages",
    "scoring_flops",
    "task_documents",
]
