"""Direction 4: mapping internal states to passages, by neurons and by a linear head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..paired_comparison import group_means
from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import DEPTH, AskedQuestions, RetrievalSubject
from .direction_values import DirectionValues, Key, kept_values

if TYPE_CHECKING:
    from ...models import Encoder

PLAIN, BM25 = "dense", "BM25"
RETRIEVER_NEURONS, BASE_NEURONS = "neurons of the retriever", "neurons of the base"
HYBRID = "neurons of the retriever fused with dense"
RETRIEVER_HEAD, BASE_HEAD = "head on a layer of the retriever", "head on a layer of the base"
LINKED, UNLINKED = "linked neurons knocked out", "unlinked neurons knocked out"
LOSES = "passage loses score"
CODES = (32, 128, 512)  # neurons of a text that may be kept; which is chosen on fitting questions
_KNOCKED_OUT = 16  # neurons of a link
_DEEP = 100  # of rankings that are fused
_LINKS = 60  # facts whose links are tested


def map_values(
    settings: DirectionSettings, subject: RetrievalSubject, seed: int, steps: StepStore
) -> DirectionValues:
    """Retrieves by sparse codes of neurons and by linear heads on layers, and tests their links.

    Args:
        settings: size of batches.
        subject: retriever, documents and questions.
        seed: of heads.
        steps: keeps measures.
    """
    depends = [subject.digests(), list(CODES), _KNOCKED_OUT, _DEEP, _LINKS, seed]
    return kept_values(steps, f"maps {seed}", depends, lambda: _Maps(settings, subject, seed).all())


class _Maps:
    """The retrievers of this direction, over documents that are encoded once."""

    def __init__(self, settings: DirectionSettings, subject: RetrievalSubject, seed: int) -> None:
        self._subject, self._seed = subject, seed
        self._size: Any = {"batch_size": settings.batch_size}
        model = subject.model
        self._texts = list(model.document_texts(subject.documents, subject.titles))
        self._vectors = model.document_encoder.encode(self._texts, progress=False, **self._size)
        self._found = DirectionValues()

    def all(self) -> DirectionValues:
        """Measures all of them."""
        subject = self._subject
        dense = self._search(self._queries(subject.model.query_encoder, subject.test), _DEEP)
        self._add(PLAIN, dense, bytes_of_a_document=4 * subject.model.dim)
        self._bm25()
        by_neurons = self._neurons(
            RETRIEVER_NEURONS, subject.model.document_encoder, subject.model.query_encoder
        )
        self._hybrid(dense, by_neurons)
        self._head(RETRIEVER_HEAD, subject.model.query_encoder)
        if subject.base is not None:
            self._neurons(BASE_NEURONS, subject.base, subject.base)
            self._head(BASE_HEAD, subject.base)
        return self._found

    def _add(self, method: str, ids: Any, **costs: float) -> None:
        self._found.add(method, self._subject.test.measures(ids[:, :DEPTH]), **costs)

    def _queries(self, encoder: Encoder, asked: AskedQuestions) -> Any:
        return encoder.encode(asked.texts, progress=False, **self._size)

    def _search(self, rows: Any, k: int) -> Any:
        from ...retrieval.exact_search import search

        return np.asarray(search(rows, self._vectors, k).ids)

    def _bm25(self) -> None:
        from ...retrieval.bm25 import Bm25

        found = Bm25(self._texts).search(self._subject.test.texts, DEPTH, warn=False)
        self._add(BM25, found.ids)

    def _neurons(self, method: str, documents: Encoder, queries: Encoder) -> Any:
        """Retrieves by sparse codes, with as many neurons as suit the fitting questions best."""
        from ...mechanisms import NeuronCodes
        from ...retrieval.sparse_index import SparseIndex

        subject = self._subject
        begin = time.perf_counter()
        _, passages = NeuronCodes.fit_encode(documents, self._texts, n=max(CODES), **self._size)
        asked = NeuronCodes.fit(queries, subject.train.texts, n=max(CODES), **self._size)
        fit, test = (asked.encode(own.texts, **self._size) for own in (subject.fit, subject.test))
        chosen, best = 0, -1.0
        for n in CODES:
            index = SparseIndex(_largest(passages, n), weighting="idf")
            value = _rr(subject.fit, index.search(_largest(fit, n), DEPTH).ids)
            if value > best:
                chosen, best = n, value
        index = SparseIndex(_largest(passages, chosen), weighting="idf")
        ids = index.search(_largest(test, chosen), _DEEP).ids
        size = index.nbytes / len(index)
        seconds = time.perf_counter() - begin
        self._add(method, ids, seconds=seconds, neurons_kept=chosen, bytes_of_a_document=size)
        if method == RETRIEVER_NEURONS:
            self._links(queries, _largest(test, chosen), _largest(passages, chosen))
        return ids

    def _hybrid(self, dense: Any, by_neurons: Any) -> None:
        from ...retrieval.fusion import fuse

        self._add(HYBRID, fuse([dense, by_neurons], DEPTH).ids)

    def _head(self, method: str, encoder: Encoder) -> None:
        """Retrieves by a linear map of the layer that suits the fitting questions best."""
        from ...mechanisms import KnowledgeHead, layer_rows

        subject = self._subject
        begin = time.perf_counter()
        train, fit, test = (
            layer_rows(encoder, own.texts, progress=False, **self._size)
            for own in (subject.train, subject.fit, subject.test)
        )
        values, heads = [], []
        for layer in range(1, len(train)):
            head = KnowledgeHead.fit(
                train[layer], self._vectors, subject.train.relevant, seed=self._seed
            )
            values.append(_rr(subject.fit, self._search(head.project(fit[layer]), DEPTH)))
            heads.append(head)
        best = int(np.argmax(values))
        ids = self._search(heads[best].project(test[best + 1]), DEPTH)
        self._add(method, ids, seconds=time.perf_counter() - begin, layer=best + 1)

    def _links(self, encoder: Encoder, queries: Any, passages: Any) -> None:
        """Knocks out the neurons that link questions to their passages, all of a fact's."""
        from ...mechanisms import link_effects

        test = self._subject.test
        facts = test.facts()
        # The same facts for every seed of a collection.
        chosen = np.random.default_rng(33).permutation(np.unique(facts))[:_LINKS]
        rows = np.flatnonzero(np.isin(facts, chosen)).tolist()
        found = link_effects(
            encoder,
            [test.texts[row] for row in rows],
            self._vectors,
            [int(test.relevant.of(row)[0]) for row in rows],
            queries[rows],
            passages,
            n=_KNOCKED_OUT,
        )
        groups = [np.flatnonzero(facts[rows] == fact).tolist() for fact in np.unique(facts[rows])]
        for method, changes in ((LINKED, found.linked), (UNLINKED, found.unlinked)):
            loses = np.where(np.isnan(changes), np.nan, changes < 0)
            self._found.add(method, {LOSES: group_means(loses, groups)})


def _rr(asked: AskedQuestions, ids: Any) -> float:
    return float(asked.measures(np.asarray(ids))["RR@10"].mean())


def _largest(codes: Any, n: int) -> Any:
    """Keeps the n largest values of each row of codes."""
    from ...mechanisms.maps.neuron_codes import largest_values

    return largest_values(codes.toarray(), n)


def references(keys: Sequence[Key]) -> dict[Key, str]:
    """Returns the method that each method is compared with."""
    named = {LINKED: UNLINKED}
    return {key: named.get(key[0], PLAIN) for key in keys if key[0] not in (PLAIN, UNLINKED)}
