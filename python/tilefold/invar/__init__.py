"""Invar-RAG: one language model that retrieves with one adapter and answers with another.

`UnifiedLM` is the model. `interventions` are rewrites of queries and context windows, `patterns`
what stays probable under them. `generation` trains and uses the second adapter: questions with
retrieved passages as examples, their trainer, and answers from passages.
"""

from __future__ import annotations

try:
    import torch as torch
    import transformers as transformers
except ImportError as error:
    raise ImportError(
        f'tilefold.invar needs torch and transformers ({error}): pip install "tilefold[train]"'
    ) from error

from .generation import (
    AnswerGenerator,
    EnsembledAnswers,
    GeneratorTrainer,
    GeneratorTrainingArguments,
    GoldShares,
    PassageEnsemble,
    ReadingExample,
    ReadingTemplate,
    example_counts,
    reading_examples,
    reading_template,
)
from .interventions import (
    REWRITE_PROMPTS,
    RULE_FAMILIES,
    AmbiguityRewriter,
    Chunks,
    ComposedRewrites,
    EncodedInterventions,
    FormalityRewriter,
    Intervention,
    InterventionRankings,
    Interventions,
    LMRewriter,
    RedundancyRewriter,
    Rewriter,
    RuleRewriter,
    TemplateRewriter,
    TypoRewriter,
    Window,
    WordOrderRewriter,
    compose_rewrites,
    kept_rewrites,
    listed_scores,
    lost_answers,
    lost_documents,
    rule_rewriters,
    search_chunks,
)
from .likelihood_teacher import likelihood_teacher
from .patterns import (
    PatternChange,
    RankingPatterns,
    pattern_change,
    ranking_patterns,
    view_probabilities,
)
from .unified_lm import UnifiedLM

__all__ = [
    "REWRITE_PROMPTS",
    "RULE_FAMILIES",
    "AmbiguityRewriter",
    "AnswerGenerator",
    "Chunks",
    "ComposedRewrites",
    "EncodedInterventions",
    "EnsembledAnswers",
    "FormalityRewriter",
    "GeneratorTrainer",
    "GeneratorTrainingArguments",
    "GoldShares",
    "Intervention",
    "InterventionRankings",
    "Interventions",
    "LMRewriter",
    "PassageEnsemble",
    "PatternChange",
    "RankingPatterns",
    "ReadingExample",
    "ReadingTemplate",
    "RedundancyRewriter",
    "Rewriter",
    "RuleRewriter",
    "TemplateRewriter",
    "TypoRewriter",
    "UnifiedLM",
    "Window",
    "WordOrderRewriter",
    "compose_rewrites",
    "example_counts",
    "kept_rewrites",
    "likelihood_teacher",
    "listed_scores",
    "lost_answers",
    "lost_documents",
    "pattern_change",
    "ranking_patterns",
    "reading_examples",
    "reading_template",
    "rule_rewriters",
    "search_chunks",
    "view_probabilities",
]
