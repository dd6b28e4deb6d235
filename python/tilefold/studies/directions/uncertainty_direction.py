"""Direction 3: uncertainty of retrieval, its calibration, and what to do where it is large."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import DEPTH, AskedQuestions, RetrievalSubject, WorldSubject
from .direction_values import DirectionValues, Floats, Key, kept_values

if TYPE_CHECKING:
    from ...confidence import EncodedCorpus

DENSE = "dense"
FALLBACKS: dict[str, Literal["bm25", "fusion"]] = {"BM25": "bm25", "fusion with BM25": "fusion"}
WHERE, AT_RANDOM = " where uncertain", " on as many random questions"
CONFORMAL = "conformal sets"
COVERED, SET_SIZE = "sets with a relevant passage", "passages of a set"
# Of each question, not measures of facts: see `DirectionValues`.
RAW, CALIBRATED, CORRECT, FACT = "confidence", "calibrated confidence", "first is right", "fact"
OF_QUESTIONS = (RAW, CALIBRATED, CORRECT, FACT)
TOP_PROBABILITY, KNOWLEDGE = "largest probability", "knowledge of the base"
FIT_SECONDS, SECONDS = "fit seconds", "seconds"
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
        settings: passes, dropout and alpha.
        subject: retrievers, documents and questions.
        seed: of draws.
        steps: keeps measures.
        world: with whose base the knowledge of facts is another estimator.
    """
    numbers = [settings.passes, settings.dropout, settings.alpha, seed, world is not None]
    depends = [subject.digests(), numbers, [_DROPOUT, _REWRITES, _TOP_SCORES]]

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
        """Measures all of them; what cannot be fitted to the questions is noted."""
        self._dense = self._corpus.search(self._subject.test.texts, DEPTH).ids
        self._found.add(DENSE, self._subject.test.measures(self._dense))
        self._estimators()
        for name, fallback in FALLBACKS.items():
            try:
                self._fall_back(name, fallback)
            except ValueError as error:
                self._found.notes[f"{name}{WHERE}"] = str(error)
        try:
            self._conformal()
        except ValueError as error:
            self._found.notes[CONFORMAL] = f"{error} (alpha {self._settings.alpha:g})"
        return self._found

    def _estimators(self) -> None:
        test = self._subject.test
        shares = _halves(self._subject.fit, self._seed)
        correct, facts = _first_is_right(self._dense, test), test.facts()
        for name, estimator in self._all_estimators().items():
            try:
                columns, costs = self._confidence(estimator, *shares)
            except ValueError as error:
                self._found.notes[name] = str(error)
                continue
            self._found.add(name, {**columns, CORRECT: correct, FACT: facts}, **costs)

    def _confidence(
        self, estimator: Any, first: AskedQuestions, second: AskedQuestions
    ) -> tuple[dict[str, Floats], dict[str, float]]:
        """Fits an estimator and its calibration, and returns both kinds of confidence."""
        from ...confidence import CalibratedConfidence, LabelledEstimator

        texts = self._subject.test.texts
        begin = time.perf_counter()
        if isinstance(estimator, LabelledEstimator):
            estimator.fit(self._corpus, first.texts, first.relevant)
        calibrated = CalibratedConfidence(estimator, "platt")
        calibrated.fit(self._corpus, second.texts, second.relevant)
        fitted = time.perf_counter()
        raw = estimator.scores(self._corpus, texts)
        costs = {"fit_seconds": fitted - begin, "seconds": time.perf_counter() - fitted}
        return {RAW: raw, CALIBRATED: calibrated.scores(self._corpus, texts)}, costs

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

        rate, passes, seed = self._settings.dropout, self._settings.passes, self._seed
        if rate is None and self._world is not None:
            rate = _DROPOUT
        found: dict[str, Any] = {
            TOP_PROBABILITY: TopProbability(),
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

    def _fall_back(self, name: str, fallback: Literal["bm25", "fusion"]) -> None:
        """Replaces the dense ranking where it is uncertain, everywhere, and at random."""
        test = self._subject.test
        search = self._search(fallback)
        everywhere = search.search(test.texts, DEPTH, confidence=1.0).ids
        self._found.add(name, test.measures(everywhere))
        found = search.search(test.texts, DEPTH)
        share = float(found.fell_back.mean())
        self._found.add(f"{name}{WHERE}", test.measures(found.ids), share_of_questions=share)
        rng = np.random.default_rng([self._seed, 36])
        chosen = rng.permutation(len(test.texts))[: int(found.fell_back.sum())]
        mixed = np.array(self._dense)
        mixed[chosen] = everywhere[chosen]
        self._found.add(f"{name}{AT_RANDOM}", test.measures(mixed))

    def _search(self, fallback: Literal["bm25", "fusion"] | None) -> Any:
        """Returns a search that is fitted to the fitting questions, those of a fact together."""
        from ...confidence import ConfidentSearch

        subject, corpus = self._subject, self._corpus
        search = ConfidentSearch(
            subject.model,
            subject.documents,
            subject.titles,
            fallback=fallback,
            vectors=corpus.vectors,
            batch_size=corpus.batch_size,
        )
        fit = subject.fit
        groups = fit.facts().tolist()
        return search.fit(fit.texts, fit.relevant, groups=groups, seed=self._seed)

    def _conformal(self) -> None:
        test = self._subject.test
        sets = self._search(None).sets(test.texts, coverage=1 - self._settings.alpha)
        hits = [
            bool(np.isin(sets.of(row), test.relevant.of(row)).any())
            for row in range(len(test.texts))
        ]
        sizes = np.diff(sets.offsets).astype(np.float64)
        measures = {COVERED: np.array(hits, np.float64), SET_SIZE: sizes}
        by_fact = {key: test.by_fact(own) for key, own in measures.items()}
        self._found.add(CONFORMAL, by_fact, coverage_asked_for=1 - self._settings.alpha)


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
        prompts = [world.clozes(n) for n in range(len(world.facts))]
        sizes = np.cumsum([0, *map(len, prompts)])
        logits = torch.from_numpy(model.logits([text for own in prompts for text in own]))
        columns = {
            name: model.word_ids([value.lower() for value in values])
            for name, values in world.objects.items()
        }
        found = {}
        for n, fact in enumerate(world.facts):
            own = logits[sizes[n] : sizes[n + 1]][:, columns[fact.relation]]
            largest = float(own.softmax(1).mean(0).max())
            found.update(dict.fromkeys(world.questions(n), largest))
        return found


def _halves(asked: AskedQuestions, seed: int) -> tuple[AskedQuestions, AskedQuestions]:
    """Splits questions in two halves, those of a fact together."""
    facts = asked.facts()
    order = np.random.default_rng([seed, 34]).permutation(np.unique(facts))
    first = np.isin(facts, order[: len(order) // 2])
    return asked.take(np.flatnonzero(first).tolist()), asked.take(np.flatnonzero(~first).tolist())


def _first_is_right(ids: Any, asked: AskedQuestions) -> Floats:
    right = [bool(np.isin(one, asked.relevant.of(row))) for row, one in enumerate(ids[:, 0])]
    return np.array(right, np.float64)


def references(keys: Sequence[Key]) -> dict[Key, str]:
    """Returns the method that each method is compared with."""
    found = {}
    for method, measure in keys:
        if method.endswith(WHERE):
            found[method, measure] = f"{method.removesuffix(WHERE)}{AT_RANDOM}"
        elif method in FALLBACKS or method.endswith(AT_RANDOM):
            found[method, measure] = DENSE
    return found
