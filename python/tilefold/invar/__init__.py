"""Invar-RAG: one language model that retrieves with one adapter and answers with another.

`UnifiedLM` is the model. `generation` trains and uses its second adapter: questions with retrieved
passages as examples, their trainer, and answers from passages.
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
from .unified_lm import UnifiedLM

__all__ = [
    "AnswerGenerator",
    "EnsembledAnswers",
    "GeneratorTrainer",
    "GeneratorTrainingArguments",
    "GoldShares",
    "PassageEnsemble",
    "ReadingExample",
    "ReadingTemplate",
    "UnifiedLM",
    "example_counts",
    "reading_examples",
    "reading_template",
]
