"""Searches retrieval tasks of MTEB (2.x) exactly: a search index for its `SearchEncoderWrapper`.

MTEB itself is not imported; a model is any encoder with `mteb_model_meta.similarity_fn_name`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, Vectors, as_vectors, widened
from ..retrieval.flat_index import FlatIndex
from ..retrieval.running_search import SearchResult
from .model_output import check_finite, marked, on_host

# Metrics of `FlatIndex` by MTEB's name of the similarity function of a model.
_METRICS = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}
# Similarities of models that compute in half precision are this far from exact ones, relative to
# the larger of the two and 1. Another function of similarity is much farther.
_TOLERANCE = 0.02


class ExactSearchIndex:
    """Finds the documents of a retrieval task exactly, and ranks candidates of a reranking task.

    For ``SearchEncoderWrapper(model, index_backend=ExactSearchIndex(model))`` of mteb.models, which
    ``mteb.evaluate`` takes for a model. Scores are those of `FlatIndex`: cosines, inner products or
    negative L2 distances, whichever the model says its similarity is, each rounded once. MTEB's own
    search differs from them in the last bits, and takes documents with the same score in the order
    that `torch.topk` happens to give; here it is that of the corpus. The wrapper encodes the whole
    corpus before it adds it: memory holds all embeddings, and 1.26 times as much in the index.

    Args:
        model: the encoder; its similarity must be "cosine", "dot" or "euclidean".
        num_threads: of a search; by default `get_num_threads()`.

    Raises:
        ValueError: the model has another similarity; leave `index_backend` out for it.

    Example:
        >>> import mteb  # doctest: +SKIP
        >>> model = mteb.get_model("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> exact = ExactSearchIndex(model)  # doctest: +SKIP
        >>> searched = mteb.models.SearchEncoderWrapper(  # doctest: +SKIP
        ...     model, index_backend=exact
        ... )
        >>> results = mteb.evaluate(searched, mteb.get_task("SciFact"))  # doctest: +SKIP
    """

    def __init__(self, model: Any, *, num_threads: int | None = None) -> None:
        similarity = model.mteb_model_meta.similarity_fn_name
        name = getattr(similarity, "value", similarity)
        if name not in _METRICS:
            raise ValueError(
                f'ExactSearchIndex: the model\'s similarity must be "cosine", "dot" or "euclidean",'
                f" got {name!r}; leave index_backend out, and MTEB computes it"
            )
        self._metric = _METRICS[name]
        self._threads = num_threads
        self._index: FlatIndex | None = None
        self._places: dict[str, int] = {}

    def add_documents(self, embeddings: Array, idxs: Sequence[str]) -> None:
        """Adds documents.

        Args:
            embeddings: ``[n, dim]``, also on a GPU.
            idxs: ``[n]`` ids of the documents.

        Raises:
            ValueError: not one id per embedding, an id that is there already, a row with NaN.
        """
        op = "ExactSearchIndex.add_documents"
        vectors = as_vectors(on_host(embeddings), op, "embeddings")
        begin, ids = len(self._places), list(idxs)
        if len(ids) != len(vectors):
            raise ValueError(f"{op}: expected {len(vectors)} ids, one per row, got {len(ids)}")
        places = self._places | {id: begin + i for i, id in enumerate(ids)}
        if len(places) != begin + len(ids):
            raise ValueError(f"{op}: an id is repeated, or is already in the index")
        if not ids:
            return
        check_finite(vectors, op, lambda row: f"the embedding of document {ids[row]!r}")
        index = self._index or FlatIndex(vectors.shape[1], metric=self._metric)
        index.add(marked(vectors), num_threads=self._threads)
        self._index, self._places = index, places

    def search(
        self,
        embeddings: Array,
        top_k: int,
        similarity_fn: Callable[[Any, Any], Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        query_idx_to_id: Mapping[int, str] | None = None,
    ) -> tuple[list[list[float]], list[list[int]]]:
        """Finds the top_k documents of each query, or ranks its candidates.

        Args:
            embeddings: ``[n, dim]`` of queries, also on a GPU.
            top_k: documents per query, at most as many as there are.
            similarity_fn: of the model. Scores do not come from it; the first one is compared with
                it.
            top_ranked: the candidates of each query by its id; all documents if None.
            query_idx_to_id: ids of queries by row; needed with `top_ranked`.

        Returns:
            Scores, and places: of documents in the order in which they were added, or in the
            query's list of candidates.

        Raises:
            ValueError: no documents, no `query_idx_to_id`, or a model whose similarity is another
                than its metadata says.
        """
        op = "ExactSearchIndex.search"
        if self._index is None:
            raise ValueError(f"{op}: there are no documents; call add_documents first")
        rows = as_vectors(on_host(embeddings), op, "embeddings")
        check_finite(rows, op, lambda row: f"row {row} of embeddings")
        queries = marked(rows)
        if top_ranked is None:
            found = self._scored(queries, min(top_k, len(self._index)))
            self._check_similarity(similarity_fn, queries, found)
            return found.scores.tolist(), found.ids.tolist()
        if query_idx_to_id is None:
            raise ValueError(f"{op}: top_ranked needs query_idx_to_id")
        answers = [
            self._ranked(queries[row : row + 1], top_k, top_ranked.get(query_idx_to_id[row], ()))
            for row in range(len(queries))
        ]
        return [scores for scores, _ in answers], [places for _, places in answers]

    def clear(self) -> None:
        """Removes all documents."""
        self._index, self._places = None, {}

    def _scored(self, queries: Any, k: int, allowed: Any = None) -> SearchResult:
        """Searches, with scores of which larger ones are better."""
        assert self._index is not None
        found = self._index.search(queries, k, allowed=allowed, num_threads=self._threads)
        scores, places = np.asarray(found.scores), np.asarray(found.ids)
        return SearchResult(-np.sqrt(scores) if self._metric == "l2" else scores, places)

    def _ranked(
        self, query: Vectors, top_k: int, candidates: Sequence[str]
    ) -> tuple[list[float], list[int]]:
        """Ranks the candidates of one query; returns their scores and places in the list."""
        if not candidates:
            return [], []
        place_of = {self._places[id]: place for place, id in enumerate(candidates)}
        found = self._scored(query, min(top_k, len(place_of)), allowed=list(place_of))
        return found.scores[0].tolist(), [place_of[number] for number in found.ids[0].tolist()]

    def _check_similarity(
        self, similarity_fn: Callable[[Any, Any], Any], queries: Vectors, found: SearchResult
    ) -> None:
        """Raises where the model computes another similarity than its metadata says."""
        if not found.ids.size:
            return
        assert self._index is not None
        # Of a cosine index the unit vector, which has the same cosine.
        document = widened(self._index.reconstruct(found.ids[0, :1]))
        query = widened(queries[:1])
        theirs = float(similarity_fn(query, document)[0][0])
        ours = float(found.scores[0, 0])
        if not abs(theirs - ours) <= _TOLERANCE * max(1.0, abs(ours)):
            raise ValueError(
                f"ExactSearchIndex.search: model.similarity gives {theirs:.6g} for the first "
                f"answer, and the similarity of its metadata {ours:.6g}; leave index_backend out"
            )
