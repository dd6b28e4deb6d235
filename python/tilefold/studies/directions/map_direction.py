"""Direction 4: mapping internal states to passages, by neurons and by a linear head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files.done_once import digest_of_columns
from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import DEPTH, AskedQuestions, RetrievalSubject
from .direction_values import DirectionValues, kept_values

if TYPE_CHECKING:
    from ...models import Encoder

PLAIN, BM25 = "dense", "BM25"
RETRIEVER_NEURONS, BASE_NEURONS = "neurons of the retriever", "neurons of the base"
HYBRID = "neurons of the retriever fused with dense"
RETRIEVER_HEAD, BASE_HEAD = "head on a layer of the retriever", "head on a layer of the base"
LINKED, RANDOM = "linked neurons knocked out", "random neurons knocked out"
LOSES = "questions whose passage loses score"
CODES = (32, 128, 512)  # neurons of a text that may be kept; which is chosen on fitting questions
_KNOCKED_OUT = 16  # neurons of a link
_DEEP = 100  # of rankings that are fused
_LINKS = 200  # questions whose links are tested


def map_values(
    settings: DirectionSettings, subject: RetrievalSubject, seed: int, steps: StepStore
) -> DirectionValues:
    """Retrieves by sparse codes of neurons and by linear heads on layers, and tests their links.

    Args:
        settings: size of batches.
        subject: retriever, documents and questions.
        seed: of heads and random neurons.
        steps: keeps measures.
    """
    depends = [
        subject.model.query_encoder.fingerprint(),
        subject.model.document_encoder.fingerprint(),
        subject.base.fingerprint() if subject.base is not None else None,
        digest_of_columns(subject.documents),
        *[digest_of_columns(own.texts) for own in (subject.train, subject.fit, subject.test)],
        [list(CODES), _KNOCKED_OUT, _LINKS, seed],
    ]
    return kept_values(steps, f"maps {seed}", depends, lambda: _Maps(settings, subject, seed).all())


class _Maps:
    """The retrievers of this direction, over documents that are encoded once."""

    def __init__(self, settings: DirectionSettings, subject: RetrievalSubject, seed: int) -> None:
        self._settings, self._subject, self._seed = settings, subject, seed
        model = subject.model
        self._texts = list(model.document_texts(subject.documents, subject.titles))
        size = settings.batch_size
        self._vectors = model.document_encoder.encode(self._texts, batch_size=size, progress=False)
        self._found = DirectionValues()

    def all(self) -> DirectionValues:
        """Measures all of them."""
        subject, test = self._subject, self._subject.test
        dense = self._dense(test, _DEEP)
        self._found.add(
            PLAIN, test.measures(dense[:, :DEPTH]), bytes_of_a_document=4 * subject.model.dim
        )
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

    def _dense(self, asked: AskedQuestions, k: int) -> Any:
        from ...retrieval.exact_search import search

        encoder = self._subject.model.query_encoder
        rows = encoder.encode(asked.texts, batch_size=self._settings.batch_size, progress=False)
        return np.asarray(search(rows, self._vectors, k).ids)

    def _bm25(self) -> None:
        from ...retrieval.bm25 import Bm25

        found = Bm25(self._texts).search(self._subject.test.texts, DEPTH, warn=False)
        self._found.add(BM25, self._subject.test.measures(found.ids))

    def _neurons(self, method: str, documents: Encoder, queries: Encoder) -> Any:
        """Retrieves by sparse codes, with as many neurons as suit the fitting questions best."""
        from ...mechanisms import NeuronCodes
        from ...retrieval.sparse_index import SparseIndex

        subject = self._subject
        begin = time.perf_counter()
        size: Any = {"batch_size": self._settings.batch_size}
        own = NeuronCodes.fit(documents, self._texts, n=max(CODES), **size)
        asked = NeuronCodes.fit(queries, subject.train.texts, n=max(CODES), **size)
        passages = own.encode(self._texts, **size)
        fit, test = (asked.encode(own.texts, **size) for own in (subject.fit, subject.test))
        chosen, best = 0, -1.0
        for n in CODES:
            index = SparseIndex(_largest(passages, n), weighting="idf")
            ids = index.search(_largest(fit, n), DEPTH).ids
            value = float(subject.fit.measures(ids)["RR@10"].mean())
            if value > best:
                chosen, best = n, value
        index = SparseIndex(_largest(passages, chosen), weighting="idf")
        ids = index.search(_largest(test, chosen), _DEEP).ids
        seconds = time.perf_counter() - begin
        self._found.add(
            method,
            subject.test.measures(ids[:, :DEPTH]),
            seconds=seconds,
            neurons_of_a_text=chosen,
            bytes_of_a_document=8 * chosen,
        )
        if method == RETRIEVER_NEURONS:
            self._links(queries, _largest(test, chosen), _largest(passages, chosen))
        return ids

    def _hybrid(self, dense: Any, by_neurons: Any) -> None:
        from ...retrieval.fusion import fuse

        found = fuse([dense, by_neurons], DEPTH)
        self._found.add(HYBRID, self._subject.test.measures(found.ids))

    def _head(self, method: str, encoder: Encoder) -> None:
        """Retrieves by a linear map of the layer that suits the fitting questions best."""
        from ...mechanisms import KnowledgeHead, layer_rows
        from ...retrieval.exact_search import search

        subject = self._subject
        begin = time.perf_counter()
        size: Any = {"batch_size": self._settings.batch_size, "progress": False}
        rows = {
            name: layer_rows(encoder, getattr(subject, name).texts, **size)
            for name in ("train", "fit", "test")
        }
        chosen, best, kept = 0, -1.0, None
        for layer in range(1, len(rows["train"])):
            head = KnowledgeHead.fit(
                rows["train"][layer], self._vectors, subject.train.relevant, seed=self._seed
            )
            ids = search(head.project(rows["fit"][layer]), self._vectors, DEPTH).ids
            value = float(subject.fit.measures(np.asarray(ids))["RR@10"].mean())
            if value > best:
                chosen, best, kept = layer, value, head
        assert kept is not None
        ids = search(kept.project(rows["test"][chosen]), self._vectors, DEPTH).ids
        seconds = time.perf_counter() - begin
        self._found.add(
            method.format("L"),
            subject.test.measures(np.asarray(ids)),
            seconds=seconds,
            layer=chosen,
        )

    def _links(self, encoder: Encoder, queries: Any, passages: Any) -> None:
        """Knocks out the neurons that link questions to their passages."""
        from ...mechanisms import link_effects

        test = self._subject.test
        order = np.random.default_rng([self._seed, 33]).permutation(len(test.texts))
        rows = np.sort(order[:_LINKS]).tolist()
        found = link_effects(
            encoder,
            [test.texts[row] for row in rows],
            self._vectors,
            [int(test.relevant.of(row)[0]) for row in rows],
            queries[rows],
            passages,
            n=_KNOCKED_OUT,
            seed=self._seed,
        )
        self._found.add(LINKED, {LOSES: found.linked < 0})
        self._found.add(RANDOM, {LOSES: found.random < 0})


def _largest(codes: Any, n: int) -> Any:
    """Keeps the n largest values of each row of codes."""
    from ...mechanisms.maps.neuron_codes import largest_values

    return largest_values(codes.toarray(), n)


def references(measures: Sequence[str]) -> dict[str, str]:
    """Returns the method that each measure is compared with."""
    return {name: RANDOM if name == LOSES else PLAIN for name in measures}
