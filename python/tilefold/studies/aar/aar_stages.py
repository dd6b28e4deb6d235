"""Stages of AAR that are kept: rankings, preferences, training sets, retrievers, answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_array, digest_of_columns
from ..study import Reporter, StepStore
from ..training_digest import digest_of_training
from .aar_settings import AARSettings, PositivesMode
from .aar_subject import AARSubject, TargetCorpus

if TYPE_CHECKING:
    from ...aar import PreferenceData, PreferenceSignal, TargetLM
    from ...data import TrainingSet
    from ...models import BiEncoder


@dataclass(frozen=True)
class AARStages:
    """Computes each stage once.

    Args:
        settings: of the study.
        subject: models and data.
        steps: keeps what was computed.
        progress: receives reports.
    """

    settings: AARSettings
    subject: AARSubject
    steps: StepStore
    progress: Reporter

    def ranking(
        self,
        model: BiEncoder,
        queries: Sequence[str],
        documents: Sequence[str],
        titles: Sequence[str],
        k: int,
    ) -> NDArray[np.int64]:
        """Retrieves documents for queries, as `kept_ranking` does."""
        return kept_ranking(
            model,
            queries,
            documents,
            titles,
            k,
            steps=self.steps,
            batch_size=self.settings.batch_size,
            progress=self.progress.bars,
        )

    def preferences(
        self, signal: PreferenceSignal, data: TrainingSet, ranking: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Scores the first passages of each question, as `kept_preferences` does."""
        ids = ranking[:, : self.settings.n_retrieved]
        return kept_preferences(signal, data, ids, steps=self.steps, progress=self.progress.bars)

    def n_read(self, corpus: TargetCorpus, target: TargetLM) -> int:
        """Returns how many passages of a question a target LM reads."""
        return self.settings.n_passages or corpus.task.default_passages(target)

    def retrieved(
        self, corpus: TargetCorpus, model: BiEncoder, n_passages: int | None = None
    ) -> list[list[str]]:
        """Retrieves the passages of each question of a task, by default the most that are read."""
        most = max(self.n_read(corpus, target) for target in self.subject.targets.values())
        k = min(n_passages or most, len(corpus.documents))
        ids = self.ranking(model, corpus.task.queries(), corpus.documents, corpus.titles, k)
        return passages_of(ids, corpus.documents)

    def answers(
        self,
        target: TargetLM,
        corpus: TargetCorpus,
        passages: list[list[str]] | None,
        *,
        n_passages: int | None = None,
    ) -> NDArray[np.float64]:
        """Returns for each question whether a target LM is right: float64 ``[n]``.

        Args:
            target: the LM.
            corpus: its task.
            passages: of each question; None for closed book.
            n_passages: that are read at most; by default that of the settings.
        """
        task = corpus.task
        n = None
        if passages is not None and any(passages):
            n = min(n_passages or self.n_read(corpus, target), max(map(len, passages)))
            passages = [own[:n] for own in passages]
        else:  # documents of an LM that wrote nothing at all are none
            passages = None
        depends = [
            target.fingerprint(),
            task.name,
            task.prompts(),
            task.accepted_answers(),
            passages,
            n,
        ]

        def make() -> dict[str, Any]:
            shown = f"answer {task.name}" if self.progress.bars else False
            return {"values": task.run(target, passages, n, progress=shown).values}

        return self.steps.once("answers", depends, make)["values"]

    def documents(self, target: TargetLM, corpus: TargetCorpus) -> list[list[str]]:
        """Lets a target LM write a document for each question of a task (GenRead)."""
        from ...aar import GENERATED_TOKENS, task_documents

        task = corpus.task
        depends = [target.generator(GENERATED_TOKENS).fingerprint(), task.document_prompts()]

        def make() -> dict[str, Any]:
            shown = f"documents for {task.name}" if self.progress.bars else False
            written = json.dumps(task_documents(target, task, progress=shown))
            return {"documents": np.frombuffer(written.encode(), np.uint8)}

        kept = self.steps.once("documents", depends, make)["documents"]
        found: list[list[str]] = json.loads(kept.tobytes())
        empty = sum(not own for own in found)
        if empty:
            self.progress.warn(
                f"{target.name} wrote no document for {empty:,} of {len(found):,} questions of "
                f"{task.name}, which it answers closed book."
            )
        return found

    def training_set(
        self,
        mode: PositivesMode,
        ranking: NDArray[np.int64],
        scores: NDArray[np.float32],
        seed: int,
    ) -> PreferenceData:
        """Merges positives, draws negatives, and selects the questions to train on."""
        from ...aar import preference_data

        settings = self.settings
        return preference_data(
            self.subject.source,
            ranking,
            scores,
            mode=mode,
            k=settings.top_k,
            depth=settings.depth,
            n_negatives=settings.n_negatives,
            seed=seed,
            exact_positives=settings.exact_positives or None,
        )

    def adapted(
        self, mode: PositivesMode, data: TrainingSet, seed: int
    ) -> tuple[Path, list[dict[str, float]]]:
        """Trains a retriever on a training set, or continues a training that was stopped.

        Returns:
            The folder of the retriever, and the measures of every evaluation with their steps.
        """
        from .retriever_training import train_retriever

        settings = self.settings
        options = [
            settings.epochs,
            settings.train_batch_size,
            settings.learning_rate,
            settings.temperature,
            settings.group_negatives,
            settings.refresh_steps,
            settings.n_negatives,
            settings.depth,
        ]
        dev = self.subject.dev
        depends = [
            self.subject.retriever.query_encoder.fingerprint(),
            self.subject.retriever.document_encoder.fingerprint(),
            self.subject.retriever.title_format,
            digest_of_training(data),
            None if dev is None else [digest_of_training(dev), dev.answers],
            options,
            seed,
            settings.n_passages,
            [target.fingerprint() for target in list(self.subject.targets.values())[:1]],
        ]
        folder = self.steps.folder(f"retriever {mode} {seed}", depends)
        answered = dev is not None and all(dev.answers)
        target = next(iter(self.subject.targets.values())) if answered else None
        return train_retriever(
            self.subject.retriever,
            data,
            dev,
            settings,
            seed,
            folder,
            target=target,
            progress=self.progress,
        )


def kept_ranking(
    model: BiEncoder,
    queries: Sequence[str],
    documents: Sequence[str],
    titles: Sequence[str],
    k: int,
    *,
    steps: StepStore,
    batch_size: int,
    progress: bool,
) -> NDArray[np.int64]:
    """Retrieves documents for queries, unless an earlier run did.

    Args:
        model: encodes both.
        queries, documents, titles: texts.
        k: documents of a query.
        steps: keeps the ranking.
        batch_size: texts in a forward pass.
        progress: whether to show progress on stderr.

    Returns:
        Ids ``[n, k]``, best first, -1 beyond the last document.
    """
    from ...retrieval.exact_search import search

    depends = [
        model.query_encoder.fingerprint(),
        model.document_encoder.fingerprint(),
        model.title_format,
        digest_of_columns(queries),
        digest_of_columns(documents, titles),
        k,
    ]

    def make() -> dict[str, Any]:
        options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
        vectors = model.encode_documents(documents, titles, **options)
        return {"ids": search(model.encode_queries(queries, **options), vectors, k).ids}

    return steps.once("ranking", depends, make)["ids"]


def check_answers(signal: PreferenceSignal, data: TrainingSet) -> None:
    """Checks that a signal has the answers that it reads, before passages are retrieved.

    Args:
        signal: of a language model.
        data: questions.

    Raises:
        ValueError: the signal needs answers, and a question has none.
    """
    without = [name for name, own in zip(data.query_ids, data.answers, strict=True) if not any(own)]
    if signal.needs_answers and without:
        raise ValueError(
            f"signal: {signal.name!r} needs an answer to every question, and {len(without):,} of "
            f"{len(data):,} have none, such as {without[0]!r}; attention needs none"
        )


def kept_preferences(
    signal: PreferenceSignal,
    data: TrainingSet,
    ids: NDArray[np.int64],
    *,
    steps: StepStore,
    progress: bool,
) -> NDArray[np.float32]:
    """Scores the passages of each question, unless an earlier run did.

    Args:
        signal: of a language model.
        data: questions and documents.
        ids: ``[n, N]`` documents of each question, -1 where it has fewer.
        steps: keeps the scores.
        progress: whether to show progress on stderr.

    Returns:
        ``[n, N]``, -inf where a question has fewer.
    """
    answers = [list(own) for own in data.answers] if signal.needs_answers else None
    depends = [
        signal.fingerprint(),
        digest_of_columns(data.queries),
        digest_of_columns(data.documents),
        digest_of_array(np.ascontiguousarray(ids)),
        answers,
    ]

    def make() -> dict[str, Any]:
        shown = "preferences" if progress else False
        passages = passages_of(ids, data.documents)
        return {"scores": signal.scores(data.queries, passages, answers, progress=shown)}

    return steps.once("preferences", depends, make)["scores"]


def passages_of(ids: NDArray[np.int64], documents: Sequence[str]) -> list[list[str]]:
    """Returns the texts of a ranking."""
    return [[documents[row] for row in own if row >= 0] for own in ids.tolist()]
