"""Answers keywords that other libraries of search have with the way to do the same here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..wrapping import Wrapped, in_place_of

_METRIC = ("metric", 'metric selects the score: "ip" or, where there are others, "cosine" or "l2"')
# Of functions without it, such as searches of an index, which has one.
_METRICS_ELSEWHERE = (
    'the metric is that of FlatIndex(dim, metric="cosine") or tilefold.search(..., metric="l2"); '
    "elsewhere scores are inner products"
)
_QUERIES = ("queries", "the vectors to search for are queries")
_DOCUMENTS = ("documents", "the vectors to search in are documents")
_DIM = ("dim", "the dimensions of vectors are dim")
_NUMBER = ("k", "the number of answers is k")
_THREADS = ("num_threads", "the number of threads is num_threads")
_FILTER = ("allowed", "documents that may be retrieved are allowed")
_NO_LIMIT = ("", "an index grows as documents are added")
_LEAST = ("min_score", "the least score is min_score")
_LINKS = ("m", "links per document are m")
_SEARCHED = ("ef_search", "candidates of a search are ef_search")
_CONSTRUCTED = ("ef_construction", "candidates of an addition are ef_construction")
# Keywords of faiss, hnswlib, usearch, sentence-transformers, scikit-learn and of vector databases,
# with the argument that does the same, if it is one, and the way. A function without that argument
# does not name it.
_WAYS = {
    "metric": _METRIC,
    "space": _METRIC,
    "distance": _METRIC,
    "similarity": _METRIC,
    "score_function": _METRIC,
    "normalize": _METRIC,
    "top_k": _NUMBER,
    "topk": _NUMBER,
    "limit": _NUMBER,
    "n_neighbors": _NUMBER,
    "n_results": _NUMBER,
    "threads": _THREADS,
    "n_jobs": _THREADS,
    "num_workers": _THREADS,
    "filter": _FILTER,
    "where": _FILTER,
    "labels": _FILTER,
    "x": _QUERIES,
    "query_embeddings": _QUERIES,
    "corpus": _DOCUMENTS,
    "corpus_embeddings": _DOCUMENTS,
    "d": _DIM,
    "dimension": _DIM,
    "ndim": _DIM,
    "radius": _LEAST,
    "batch_size": ("", "queries are divided as memory and threads require"),
    "threshold": _LEAST,
    "score_threshold": _LEAST,
    "max_elements": _NO_LIMIT,
    "capacity": _NO_LIMIT,
    "M": _LINKS,
    "connectivity": _LINKS,
    "ef": _SEARCHED,
    "expansion_search": _SEARCHED,
    "efConstruction": _CONSTRUCTED,
    "expansion_add": _CONSTRUCTED,
}


def explains_names(op: str, *attributes: str) -> Callable[[Wrapped], Wrapped]:
    """Decorates a function that refuses other libraries' keywords and names what it has instead.

    Args:
        op: the public function, for messages.
        *attributes: of its object, which may be named like its arguments.

    Example:
        >>> @explains_names("nearest")
        ... def nearest(query, k): ...
        >>> nearest([1.0], top_k=3)
        Traceback (most recent call last):
        TypeError: nearest: there is no argument top_k; the number of answers is k
    """

    def decorate(function: Wrapped) -> Wrapped:
        arguments = inspect.signature(function).parameters
        known = {"", *arguments, *attributes}
        ways = {
            name: f"there is no argument {name}; {way}"
            for name, (argument, way) in _WAYS.items()
            if name not in arguments and argument in known
        }
        if "metric" not in arguments:
            ways |= {
                name: f"there is no argument {name}; {_METRICS_ELSEWHERE}"
                for name, way in _WAYS.items()
                if way is _METRIC
            }
        unknown = frozenset(ways)

        def call(*args: Any, **options: Any) -> Any:
            if not unknown.isdisjoint(options):
                raise TypeError(f"{op}: {next(ways[name] for name in options if name in ways)}")
            return function(*args, **options)

        return in_place_of(function, call)

    return decorate
