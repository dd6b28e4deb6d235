"""The subject of a study of Invar-RAG: language model, coarse encoder, questions and rewrites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .invar_subject_settings import Pooling

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...models import BiEncoder


@dataclass(frozen=True)
class InvarSubject:
    """Models and data of a study.

    Args:
        title: one line that names them.
        model: folder or name of the causal language model, or of another retriever.
        coarse: the coarse encoder.
        train: questions to train on, with positives and without negatives.
        rewrites: of each training question, seen in training.
        test: questions to evaluate on, with positives.
        unseen: rewrites of each test question, which no training has seen.
        counts: numbers of questions and rewrites, and of what was left out.
        template: of a prompt, with the fields {passages} and {question}.
        prefixes: of queries and of passages; None for the defaults of the model.
        pooling: of texts; None for the default of the model.
        is_language_model: whether the model is a causal language model, which stage 2 needs.
        baselines: folders or names of further retrievers, by the name that results have.
    """

    title: str
    model: str
    coarse: BiEncoder
    train: TrainingSet
    rewrites: Sequence[Sequence[str]]
    test: TrainingSet
    unseen: Sequence[Sequence[str]]
    template: str
    counts: dict[str, int] = field(default_factory=dict)
    prefixes: tuple[str | None, str | None] = (None, None)
    pooling: Pooling | None = None
    is_language_model: bool = True
    baselines: Mapping[str, str] = field(default_factory=dict)
