"""The subject of a study of AAR: retriever, source task, source LM, target LMs and their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...aar import MmluTask, PopqaTask, PreferenceSignal, TargetLM
    from ...data import TrainingSet
    from ...models import BiEncoder


@dataclass(frozen=True)
class TargetCorpus:
    """A target task and the documents that are retrieved for it.

    Args:
        task: questions and their measure.
        documents, titles: m texts.
        gold: passages that are known to state the answer of each question; None where none are.
        development: questions to choose thresholds of Adaptive Retrieval with; None for none.
    """

    task: PopqaTask | MmluTask
    documents: list[str]
    titles: list[str]
    gold: list[list[str]] | None = None
    development: PopqaTask | None = None


@dataclass(frozen=True)
class AARSubject:
    """Models and data of a study.

    Args:
        title: one line that names them.
        retriever: before adaptation.
        source: questions of the source task, with human positives and without negatives.
        dev: questions of the source task that are held out of training.
        signal: preferences of the source LM.
        annotators: preferences of other LMs, for their overlap with those of the source LM.
        targets: target LMs by name.
        tasks: target tasks by name.
    """

    title: str
    retriever: BiEncoder
    source: TrainingSet
    dev: TrainingSet | None
    signal: PreferenceSignal
    annotators: Mapping[str, PreferenceSignal]
    targets: Mapping[str, TargetLM]
    tasks: Mapping[str, TargetCorpus]
