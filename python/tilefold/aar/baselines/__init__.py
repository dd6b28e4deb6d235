"""Baselines and analyses of the AAR paper: Adaptive Retrieval, GenRead, answer deletion, FLOPs."""

from .adaptive_retrieval import (
    AdaptiveResult,
    AnsweredQuestions,
    adaptive_retrieval,
    popularity_threshold,
    popularity_thresholds,
)
from .answer_deletion import (
    DeletionEffect,
    answer_deletion,
    compare_losses,
    delete_answers,
    delete_from_passages,
)
from .flops import (
    TransformerShape,
    causal_flops,
    decoding_flops,
    encoding_flops,
    fusion_flops,
    scoring_flops,
)
from .genread import GENERATED_TOKENS, generated_passages, task_documents

__all__ = [
    "GENERATED_TOKENS",
    "AdaptiveResult",
    "AnsweredQuestions",
    "DeletionEffect",
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
    "popularity_threshold",
    "popularity_thresholds",
    "scoring_flops",
    "task_documents",
]
