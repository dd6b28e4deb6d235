"""Synthetic training questions for passages that no labelled question asks about.

A retriever learns from labelled questions, which ask about a part of a collection. These functions
make questions about the rest, remove those that do not lead back to their passage, add the others
to a training set, and order them by what a masked language model knows.
"""

from .cropped_questions import cropped_questions
from .exposed_training import exposed_training_set, order_by_knowledge
from .question_templates import QuestionTemplates
from .round_trip import round_trip
from .synthetic_questions import SyntheticQuestions

__all__ = [
    "QuestionTemplates",
    "SyntheticQuestions",
    "cropped_questions",
    "exposed_training_set",
    "order_by_knowledge",
    "round_trip",
]
