"""Generation from retrieved passages: examples, their trainer, answers (stage 2 of Invar-RAG)."""

from .answer_generator import AnswerGenerator
from .generator_arguments import GeneratorTrainingArguments
from .generator_trainer import GeneratorTrainer
from .passage_ensemble import EnsembledAnswers, PassageEnsemble
from .reading_examples import GoldShares, ReadingExample, example_counts, reading_examples
from .reading_template import TEMPLATES, ReadingTemplate, reading_template

__all__ = [
    "TEMPLATES",
    "AnswerGenerator",
    "EnsembledAnswers",
    "GeneratorTrainer",
    "GeneratorTrainingArguments",
    "GoldShares",
    "PassageEnsemble",
    "ReadingExample",
    "ReadingTemplate",
    "example_counts",
    "reading_examples",
    "reading_template",
]
