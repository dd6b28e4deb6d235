"""semantic_search(): the exact search behind the signature of sentence-transformers' function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array, Vectors, as_array, as_vectors, check_dim
from ..integers import as_integer
from ..retrieval.exact_search import search_on_host
from ..retrieval.search_options import SearchOptions
from .model_output import as_float32, check_finite, marked, on_host

# Metrics of a search by the name of sentence-transformers' function of scores.
_METRICS = {"cos_sim": "cosine", "dot_score": "ip", "euclidean_sim": "l2"}


def semantic_search(
    query_embeddings: Array,
    corpus_embeddings: Array,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: str | Callable[..., Any] = "cos_sim",
) -> list[list[dict[str, int | float]]]:
    """Finds the top_k entries of a corpus for each query, as `sentence_transformers.util` does.

    Scores are exact and rounded once, entries with the same score are in the order of the corpus,
    and neither depends on the sizes of chunks. A `tilefold.FlatIndex` prepares the corpus once for
    many calls, and `tilefold.search` returns arrays, which take less time to make than these
    dictionaries.

    Args:
        query_embeddings: ``[n, dim]``, or ``[dim]`` for a single one. Tensors on a GPU are searched
            on the host.
        corpus_embeddings: ``[m, dim]``.
        query_chunk_size, corpus_chunk_size: at least 1. They bound the matrix of scores there;
            here there is none, and both change neither results nor memory.
        top_k: entries per query; all of them where there are fewer.
        score_function: `cos_sim`, `dot_score` or `euclidean_sim` of sentence-transformers, or its
            name.

    Returns:
        For each query, dictionaries with "corpus_id" and "score", best first.

    Raises:
        TypeError: a size that is no integer, or embeddings of no dtype of vectors.
        ValueError: another function of scores, sparse tensors, a NaN, shapes that do not fit.

    Example:
        >>> corpus = np.float32([[1, 0], [0, 2], [1, 1]])
        >>> semantic_search(np.float32([0, 1]), corpus, top_k=2, score_function="dot_score")
        [[{'corpus_id': 1, 'score': 2.0}, {'corpus_id': 2, 'score': 1.0}]]
    """
    op = "semantic_search"
    as_integer(query_chunk_size, op, "query_chunk_size", at_least=1)
    as_integer(corpus_chunk_size, op, "corpus_chunk_size", at_least=1)
    k = as_integer(top_k, op, "top_k", at_least=1)
    metric = _metric_of(score_function, op)
    queries = _vectors(query_embeddings, op, "query_embeddings")
    corpus = _vectors(corpus_embeddings, op, "corpus_embeddings")
    if not len(corpus):
        return [[] for _ in range(len(queries))]
    check_dim(op, "query_embeddings", queries.shape[1], "corpus_embeddings have", corpus.shape[1])
    k = min(k, len(corpus))
    found = search_on_host(marked(queries), corpus, k, SearchOptions(op=op), metric)
    scores = np.asarray(found.scores)
    return [
        [{"corpus_id": id, "score": score} for id, score in zip(*row, strict=True)]
        for row in zip(
            np.asarray(found.ids).tolist(),
            (-np.sqrt(scores) if metric == "l2" else scores).tolist(),
            strict=True,
        )
    ]


def _metric_of(score_function: str | Callable[..., Any], op: str) -> str:
    """Returns the metric that a function of scores of sentence-transformers computes."""
    name = score_function if isinstance(score_function, str) else None
    if str(getattr(score_function, "__module__", "")).startswith("sentence_transformers."):
        name = getattr(score_function, "__name__", None)
    if name not in _METRICS:
        raise ValueError(
            f"{op}: score_function must be cos_sim, dot_score or euclidean_sim of "
            f"sentence-transformers, got {score_function!r}; for others use its own semantic_search"
        )
    return _METRICS[name]


def _vectors(embeddings: Array, op: str, name: str) -> Vectors:
    """Returns finite vectors ``[n, dim]``, one for ``[dim]``; lists of tensors are joined."""
    listed = isinstance(embeddings, (list, tuple))
    if any(map(_is_sparse, embeddings if listed else [embeddings])):
        raise ValueError(f"{op}: {name} are sparse; pass embeddings.to_dense()")
    if listed and not len(embeddings):
        return np.empty((0, 1), np.float32)
    rows = [on_host(row) for row in embeddings] if listed else on_host(embeddings)
    array = as_array(rows, op, name)
    if listed and array.dtype.kind in "fiu":
        array = as_float32(array)
    vectors = as_vectors(array[None] if array.ndim == 1 else array, op, name)
    check_finite(vectors, op, lambda row: f"row {row} of {name}")
    return vectors


def _is_sparse(embeddings: Array) -> bool:
    """Returns whether embeddings are a tensor of torch in a sparse layout."""
    return str(getattr(embeddings, "layout", "")).startswith("torch.sparse")
