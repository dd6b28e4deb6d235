"""Answers keywords that other libraries of search have with the way to do the same here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..wrapping import Wrapped, in_place_of

_INNER_PRODUCT = (
    'scores are inner products: for cosine similarity search a FlatIndex(dim, metric="cosine"), or '
    "divide queries and documents by their norms"
)
_NUMBER = "the number of answers is k"
_THREADS = "the number of threads is num_threads"
_FILTER = "documents that may be retrieved are allowed"
_NO_LIMIT = "an index grows as documents are added"
# Keywords of faiss, hnswlib, usearch, sentence-transformers, scikit-learn and of vector databases.
_WAYS = {
    "metric": _INNER_PRODUCT,
    "space": _INNER_PRODUCT,
    "distance": _INNER_PRODUCT,
    "similarity": _INNER_PRODUCT,
    "score_function": _INNER_PRODUCT,
    "normalize": _INNER_PRODUCT,
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
    "batch_size": "queries are divided as memory and threads require",
    "threshold": "the least score is min_score",
    "score_threshold": "the least score is min_score",
    "max_elements": _NO_LIMIT,
    "capacity": _NO_LIMIT,
    "M": "links per document are m",
    "connectivity": "links per document are m",
    "ef": "candidates of a search are ef_search",
    "expansion_search": "candidates of a search are ef_search",
    "efConstruction": "candidates of an addition are ef_construction",
    "expansion_add": "candidates of an addition are ef_construction",
}


def explains_names(op: str) -> Callable[[Wrapped], Wrapped]:
    """Decorates a function that refuses other libraries' keywords and names what it has instead.

    Args:
        op: the public function, for messages.

    Example:
        >>> @explains_names("nearest")
        ... def nearest(query, k): ...
        >>> nearest([1.0], top_k=3)
        Traceback (most recent call last):
        TypeError: nearest: there is no argument top_k; the number of answers is k
    """

    def decorate(function: Wrapped) -> Wrapped:
        unknown = frozenset(_WAYS.keys() - inspect.signature(function).parameters.keys())
        ways = {name: f"there is no argument {name}; {_WAYS[name]}" for name in unknown}

        def call(*args: Any, **options: Any) -> Any:
            if not unknown.isdisjoint(options):
                raise TypeError(f"{op}: {next(ways[name] for name in options if name in ways)}")
            return function(*args, **options)

        return in_place_of(function, call)

    return decorate
