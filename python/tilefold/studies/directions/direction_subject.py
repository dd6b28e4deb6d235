"""The subjects of the study: a world with its base and plain retriever, or a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...evaluate import evaluate
from ...files.done_once import digest_of, digest_of_columns
from ...ragged_lists import Lists
from ..bound.bound_result import ADDED, REMOVED
from ..bound.bound_subject import BoundSubject, world_facts
from ..paired_comparison import group_means
from .direction_settings import DirectionSettings
from .direction_values import Floats

if TYPE_CHECKING:
    from ...models import BiEncoder, Encoder
    from ...world import World

MEASURES = ("RR@10", "R@10")
DEPTH = 10  # of rankings
_WORDINGS = (0, 1, 2, 3)  # of a world's questions; the last one is in no training


@dataclass(frozen=True)
class AskedQuestions:
    """Questions with their relevant documents.

    Args:
        texts: questions.
        relevant: rows of documents of each.
        groups: rows of questions about one fact, which count as one sample.
    """

    texts: list[str]
    relevant: Lists
    groups: list[list[int]]

    def by_fact(self, values: Floats) -> Floats:
        """Returns means over the questions of each fact, float64 ``[facts]``."""
        return group_means(values, self.groups)

    def take(self, rows: Sequence[int]) -> AskedQuestions:
        """Selects questions, each of which then counts as one sample."""
        return AskedQuestions(
            [self.texts[row] for row in rows],
            Lists.pack([self.relevant.of(row) for row in rows]),
            [],
        )

    def digest(self) -> str:
        """Returns a digest of texts, relevant documents and groups."""
        lists = [part.tolist() for part in self.relevant]
        return digest_of([self.texts, lists, self.groups])

    def facts(self) -> NDArray[np.int64]:
        """Returns the number of the fact of each question, ``[n]``."""
        numbers = np.arange(len(self.texts))
        for number, rows in enumerate(self.groups):
            numbers[rows] = number
        return numbers

    def measures(self, ids: object) -> dict[str, Floats]:
        """Returns measures of a ranking, float64 ``[facts]`` by name."""
        qrels = (self.relevant.offsets, self.relevant.indices, np.ones(len(self.relevant.indices)))
        found = evaluate(ids, qrels, MEASURES)
        return {name: self.by_fact(values) for name, values in found.items()}


@dataclass(frozen=True)
class RetrievalSubject:
    """A retriever, its documents, and questions for fitting and for the test.

    Args:
        model: the retriever.
        base: encoder of the model that it was trained from; None where there is none.
        members: retrievers trained alike with other seeds, for an ensemble; with the first one.
        documents, titles: all passages.
        train: questions that maps are trained on; in a world the retriever was, too.
        fit: questions for estimators, calibration and choices, on which the retriever of a world
            was not trained.
        test: questions of the evaluation.
    """

    model: BiEncoder
    base: Encoder | None
    members: list[BiEncoder]
    documents: list[str]
    titles: list[str]
    train: AskedQuestions
    fit: AskedQuestions
    test: AskedQuestions

    def digests(self) -> list[object]:
        """Returns digests of models, documents and questions."""
        model = self.model
        return [
            [own.query_encoder.fingerprint() for own in self.members],
            [own.document_encoder.fingerprint() for own in self.members],
            None if self.base is None else self.base.fingerprint(),
            [digest_of_columns(self.documents), digest_of_columns(self.titles)],
            [model.title_format, DEPTH, list(MEASURES)],
            [own.digest() for own in (self.train, self.fit, self.test)],
        ]


@dataclass(frozen=True)
class WorldSubject:
    """A world of one seed with its base, facts by what the base knows, and the plain retriever.

    Args:
        bound: world, base and facts; its added facts are those that are injected.
        held_out: facts of which no question is in the training.
        plain: folder of the retriever.
        seed: of all of them.
    """

    bound: BoundSubject
    held_out: list[int]
    plain: Path
    seed: int


def world_subject(settings: DirectionSettings, seed: int) -> WorldSubject:
    """Makes a world, and trains its base and its plain retriever unless an earlier run did.

    Args:
        settings: of the study.
        seed: of world and trainings.

    Raises:
        ValueError: fewer unknown facts than are to be injected.
    """
    assert settings.world is not None
    own = world_facts(settings.world, seed)
    injected: list[int] = []
    if "injection" in settings.chosen:
        if len(own.unknown) < settings.n_facts:
            raise ValueError(
                f"DirectionSettings: n_facts: expected at most {len(own.unknown)}, as many facts "
                f"of the test are unknown to the base, got {settings.n_facts}"
            )
        injected = sorted(own.unknown[: settings.n_facts])
    groups = {ADDED: injected, REMOVED: []}
    bound = BoundSubject(own.world, own.base, own.model, own.train, groups, own.ranks)
    held_out = np.setdiff1d(np.arange(len(bound.world.facts)), bound.train).tolist()
    return WorldSubject(bound, held_out, plain_retriever(settings, bound, seed), seed)


def plain_retriever(settings: DirectionSettings, bound: BoundSubject, seed: int) -> Path:
    """Returns the folder of a retriever from the base, trained on the labelled questions alone.

    Args:
        settings: epochs.
        bound: world, base and facts.
        seed: of the training.
    """
    from ...world.world_retrievers import fine_tuned

    return fine_tuned(
        bound.world,
        bound.base,
        bound.train,
        epochs=settings.retriever_epochs,
        seed=seed,
    )


def world_retrieval(settings: DirectionSettings, subject: WorldSubject) -> RetrievalSubject:
    """Returns the retriever of a world with questions about facts that it was not trained on.

    Half of the held-out facts are for fitting, the others for the test.
    """
    from ...models import BiEncoder
    from ...world.world_retrievers import base_model

    bound, seed = subject.bound, subject.seed
    folders = [subject.plain]
    if "uncertainty" in settings.chosen:
        # Seeds of a training, far from those of worlds.
        others = [1000 * member + seed for member in range(1, settings.members)]
        folders += [plain_retriever(settings, bound, other) for other in others]
    models = [BiEncoder.from_pretrained(folder) for folder in folders]
    order = np.random.default_rng([seed, 30]).permutation(subject.held_out).tolist()
    cut = len(order) // 2
    passages = bound.world.passages
    return RetrievalSubject(
        models[0],
        base_model(bound.base).query_encoder,
        models,
        [passage.text for passage in passages],
        [passage.title for passage in passages],
        _asked(bound.world, bound.train, _WORDINGS[:3]),
        _asked(bound.world, sorted(order[:cut]), _WORDINGS),
        _asked(bound.world, sorted(order[cut:]), _WORDINGS),
    )


def _asked(world: World, facts: Sequence[int], wordings: Sequence[int]) -> AskedQuestions:
    from ...world.retrieval_data import training_set

    data = training_set(world, facts, paraphrases=wordings)
    n = len(wordings)
    groups = [list(range(begin, begin + n)) for begin in range(0, len(data), n)]
    return AskedQuestions(data.queries, data.positives, groups)


def collection_retrieval(settings: DirectionSettings, seed: int) -> RetrievalSubject:
    """Loads a retriever and a collection.

    Args:
        settings: which ones.
        seed: of the draw of queries for fitting, where no split is named.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read.
    """
    from ...data import read_collection
    from ...models.model_record import open_model

    assert settings.data is not None
    assert settings.model is not None
    names = [settings.train_split, settings.test_split]
    names += [settings.fit_split] if settings.fit_split else []
    splits = [read_collection(settings.data, split=split) for split in names]
    train, test, *own = (_judged(data.queries, data.qrels) for data in splits)
    if own:
        fit = own[0]
    else:
        order = np.random.default_rng([seed, 30]).permutation(len(train.texts))
        cut = max(1, len(order) // 3)
        fit, train = (train.take(np.sort(some).tolist()) for some in (order[:cut], order[cut:]))
    model = open_model(settings.model)
    return RetrievalSubject(
        model,
        None,
        [model],
        splits[0].documents,
        list(splits[0].titles or [""] * len(splits[0].documents)),
        train,
        fit,
        test,
    )


def _judged(texts: Sequence[str], qrels: object) -> AskedQuestions:
    """Returns the queries that have a relevant document."""
    from ...data.self_retrieval import relevant_documents

    relevant = relevant_documents(qrels)  # type: ignore[arg-type]
    rows = np.flatnonzero(np.diff(relevant.offsets)).tolist()
    return AskedQuestions(
        [texts[row] for row in rows], Lists.pack([relevant.of(row) for row in rows]), []
    )
