"""Direction 3: uncertainty of retrieval, its calibration, and what to do where it is large."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files.done_once import digest_of_columns
from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import DEPTH, AskedQuestions, RetrievalSubject, WorldSubject
from .direction_values import DirectionValues, Floats, kept_values

if TYPE_CHECKING:
    from ...confidence import EncodedCorpus

DENSE, BM25, FUSION = "dense", "BM25", "fusion with BM25"
BM25_WHERE, FUSION_WHERE = "BM25 where uncertain", "fusion where uncertain"
CONFORMAL = "conformal sets"
COVERED, SET_SIZE = "sets with a relevant passage", "passages of a set"
# Of each question, not measures of facts: see `DirectionValues`.
RAW, CALIBRATED, CORRECT, FACT = "confidence", "calibrated confidence", "first is right", "fact"
OF_QUESTIONS = (RAW, CALIBRATED, CORRECT, FACT)
KNOWLEDGE = "knowledge of the base"
_DROPOUT = 0.1  # of models of a world, which are trained without
_REWRITES = 3  # draws of the template rewriter
_TOP_SCORES = 5  # features of the probe besides the embedding


def uncertainty_values(
    settings: DirectionSettings,
    subject: RetrievalSubject,
    seed: int,
    steps: StepStore,
    world: WorldSubject | None = None,
) -> DirectionValues:
    """Estimates, calibrates and uses the uncertainty of retrieval.

    Estimators, calibration and thresholds are fitted to the fitting questions alone.

    Args:
        settings: passes, members and alpha.
        subject: retrievers, documents and questions.
        seed: of draws.
        steps: keeps measures.
        world: with whose base the knowledge of facts is another estimator.
    """
    depends = [
        [own.query_encoder.fingerprint() for own in subject.members],
        [own.document_encoder.fingerprint() for own in subject.members],
        digest_of_columns(subject.documents),
        [digest_of_columns(own.texts) for own in (subject.fit, subject.test)],
        [settings.passes, settings.members, settings.alpha, seed, world is not None],
        [_DROPOUT, _REWRITES, _TOP_SCORES],
    ]

    def make() -> DirectionValues:
        return _Uncertainty(settings, subject, seed, world).all()

    return kept_values(steps, f"uncertainty {seed}", depends, make)


class _Uncertainty:
    """The measures of this direction, over documents that are encoded once for each member."""

    def __init__(
        self,
        settings: DirectionSettings,
        subject: RetrievalSubject,
        seed: int,
        world: WorldSubject | None,
    ) -> None:
        from ...confidence import EncodedCorpus

        self._settings, self._subject, self._seed, self._world = settings, subject, seed, world
        options: Any = {"batch_size": settings.batch_size, "progress": False}
        self._corpus = EncodedCorpus(subject.model, subject.documents, subject.titles, **options)
        self._found = DirectionValues()

    def all(self) -> DirectionValues:
        """Measures all of them."""
        self._estimators()
        self._fallbacks()
        self._conformal()
        return self._found

    def _estimators(self) -> None:
        fit, test = self._subject.fit, self._subject.test
        first, second = _halves(fit, self._seed)
        correct = _first_is_right(self._corpus, test)
        facts = _facts(test)
        for name, estimator in self._all_estimators().items():
            begin = time.perf_counter()
            raw, calibrated = self._confidence(estimator, first, second)
            seconds = time.perf_counter() - begin
            columns = {RAW: raw, CALIBRATED: calibrated, CORRECT: correct, FACT: facts}
            self._found.add(name, columns, seconds=seconds)

    def _confidence(
        self, estimator: Any, first: AskedQuestions, second: AskedQuestions
    ) -> tuple[Floats, Floats]:
        """Fits an estimator and its calibration, and returns both kinds of confidence."""
        from ...confidence import CalibratedConfidence, LabelledEstimator

        texts = self._subject.test.texts
        if isinstance(estimator, LabelledEstimator):
            estimator.fit(self._corpus, first.texts, first.relevant)
        calibrated = CalibratedConfidence(estimator, "platt")
        calibrated.fit(self._corpus, second.texts, second.relevant)
        return estimator.scores(self._corpus, texts), calibrated.scores(self._corpus, texts)

    def _all_estimators(self) -> dict[str, Any]:
        from ...confidence import (
            DropoutConfidence,
            EnsembleConfidence,
            GaussianConfidence,
            Margin,
            ProbeConfidence,
            RewriteConfidence,
            TopProbability,
        )

        rate = _DROPOUT if self._world is not None else None
        passes, seed = self._settings.passes, self._seed
        found: dict[str, Any] = {
            "largest probability": TopProbability(),
            "margin of the first two": Margin(),
            "Monte Carlo dropout": DropoutConfidence(rate=rate, passes=passes, seed=seed),
            "variance over rewrites": RewriteConfidence(self._rewrites),
            "Gaussian embeddings": GaussianConfidence(seed=seed),
            "probe of the query": ProbeConfidence(top_scores=_TOP_SCORES, seed=seed),
        }
        if len(self._subject.members) > 1:
            found["ensemble"] = EnsembleConfidence(self._subject.members)
        if self._world is not None:
            found[KNOWLEDGE] = _BaseKnowledge(self._world)
        return found

    def _rewrites(self, queries: Sequence[str]) -> list[list[str]]:
        from ...invar import TemplateRewriter

        rewriter = TemplateRewriter(seed=self._seed)
        draws = [rewriter.rewrite(list(queries), draw=draw) for draw in range(_REWRITES)]
        return [list(own) for own in zip(*draws, strict=True)]

    def _fallbacks(self) -> None:
        """Ranks by BM25 or by fusion where the dense ranking is uncertain, and everywhere."""
        fit, test = self._subject.fit, self._subject.test
        for method, always, fallback in (
            (BM25_WHERE, BM25, "bm25"),
            (FUSION_WHERE, FUSION, "fusion"),
        ):
            search = self._search(fallback)
            search.fit(fit.texts, fit.relevant, seed=self._seed)
            found = search.search(test.texts, DEPTH)
            share = float(found.fell_back.mean())
            self._found.add(method, test.measures(found.ids), share_that_falls_back=share)
            everywhere = search.search(test.texts, DEPTH, confidence=1.0)
            self._found.add(always, test.measures(everywhere.ids))
        dense = self._corpus.search(test.texts, DEPTH).ids
        self._found.add(DENSE, test.measures(dense))

    def _search(self, fallback: Any) -> Any:
        from ...confidence import ConfidentSearch

        subject, corpus = self._subject, self._corpus
        return ConfidentSearch(
            subject.model,
            subject.documents,
            subject.titles,
            fallback=fallback,
            vectors=corpus.vectors,
            batch_size=corpus.batch_size,
        )

    def _conformal(self) -> None:
        fit, test = self._subject.fit, self._subject.test
        search = self._search(None)
        search.fit(fit.texts, fit.relevant, seed=self._seed)
        sets = search.sets(test.texts, coverage=1 - self._settings.alpha)
        hits = [
            bool(np.isin(sets.of(i), test.relevant.of(i)).any()) for i in range(len(test.texts))
        ]
        sizes = np.diff(sets.offsets).astype(np.float64)
        measures = {COVERED: np.array(hits, np.float64), SET_SIZE: sizes}
        by_fact: Mapping[str, Floats] = {key: test.by_fact(own) for key, own in measures.items()}
        self._found.add(CONFORMAL, by_fact)


class _BaseKnowledge:
    """Confidence that the base knows a question's fact: its largest probability of a value.

    The question's fact is that of the world; its object plays no part.
    """

    def __init__(self, subject: WorldSubject) -> None:
        self._subject = subject
        self._known: dict[str, float] = {}

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> Floats:
        """Returns the mean over the fact's prompts, ``[n]``."""
        if not self._known:
            self._known = self._all()
        return np.array([self._known[text] for text in queries])

    def _all(self) -> dict[str, float]:
        import torch

        world, model = self._subject.bound.world, self._subject.bound.model
        found = {}
        for n, fact in enumerate(world.facts):
            values = [value.lower() for value in world.objects[fact.relation]]
            logits = torch.from_numpy(model.logits(world.clozes(n)))[:, model.word_ids(values)]
            largest = float(logits.softmax(1).mean(0).max())
            found.update(dict.fromkeys(world.questions(n), largest))
        return found


def _halves(asked: AskedQuestions, seed: int) -> tuple[AskedQuestions, AskedQuestions]:
    """Splits questions in two halves, those of a fact together."""
    groups = asked.groups or [[row] for row in range(len(asked.texts))]
    order = np.random.default_rng([seed, 34]).permutation(len(groups)).tolist()
    cut = len(groups) // 2
    parts = []
    for chosen in (sorted(order[:cut]), sorted(order[cut:])):
        rows = [row for place in chosen for row in groups[place]]
        parts.append(asked.take(rows))
    return parts[0], parts[1]


def _first_is_right(corpus: EncodedCorpus, asked: AskedQuestions) -> Floats:
    first = corpus.search(asked.texts, 1).ids[:, 0]
    right = [bool(np.isin(one, asked.relevant.of(row))) for row, one in enumerate(first)]
    return np.array(right, np.float64)


def _facts(asked: AskedQuestions) -> Floats:
    """Returns the number of the fact of each question."""
    numbers = np.arange(len(asked.texts), dtype=np.float64)
    for number, rows in enumerate(asked.groups):
        numbers[rows] = number
    return numbers


def references(measures: Sequence[str]) -> dict[str, str]:
    """Returns the method that each measure is compared with, "" for none."""
    return {name: "" if name in (COVERED, SET_SIZE) else DENSE for name in measures}
