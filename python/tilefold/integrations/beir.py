"""Searches collections of BEIR exactly, in the place of its `DenseRetrievalExactSearch`.

BEIR itself is not imported; a model is any object with `encode_queries` and `encode_corpus`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from ..arrays import Vectors, as_vectors
from ..integers import as_integer
from ..retrieval.exact_search import fold_array
from ..retrieval.metric import unit_vectors
from ..retrieval.running_search import RunningSearch, SearchResult
from ..retrieval.search_options import SearchOptions
from .model_output import check_finite, marked, on_host

Results = dict[str, dict[str, float]]

# Whether vectors are divided by their norms, by BEIR's names of functions of scores.
_UNIT = {"cos_sim": True, "dot": False}


class ExactBeirSearch:
    """Retrieves the top_k documents of every query of a collection, exactly.

    For ``EvaluateRetrieval(ExactBeirSearch(model), score_function="cos_sim")`` of
    `beir.retrieval.evaluation`, with the arguments and results of `DenseRetrievalExactSearch`. The
    corpus is encoded longest text first and part by part, as there, so memory holds the embeddings
    of `corpus_chunk_size` documents; the scores of a part are never kept as a matrix. Differences:

    - Scores are exact inner products rounded once, and do not depend on `corpus_chunk_size` or the
      machine. Documents with the same score are ordered by their place in the corpus; in BEIR the
      last ones, of those at rank top_k, depend on `torch.topk`, and then on the strings of ids.
    - A row with NaN is an error; BEIR gives such a document the score -1.
    - Results are best first whether or not `return_sorted` is True.

    Args:
        model: with `encode_queries(texts, batch_size=...)` and `encode_corpus(documents,
            batch_size=...)`, as those of `beir.retrieval.models`.
        batch_size: texts that the model encodes at once.
        corpus_chunk_size: documents that are encoded before they are searched.
        skip_same_id: leave out a document whose id is that of the query, as BEIR always does, since
            queries of some collections are documents of them. False keeps it, and so an unrelated
            document that happens to have the id of a query.
        show_progress_bar, convert_to_tensor: passed on to the model, with BEIR's defaults.
        num_threads: of a search; by default `get_num_threads()`.

    Example:
        >>> class Model:
        ...     def encode_queries(self, texts, **options):
        ...         return np.float32([[len(text), 1] for text in texts])
        ...     def encode_corpus(self, documents, **options):
        ...         return self.encode_queries([document["text"] for document in documents])
        >>> corpus = {"d1": {"text": "long text"}, "d2": {"text": "text"}}
        >>> search = ExactBeirSearch(Model())
        >>> search.search(corpus, {"q1": "some text"}, top_k=2, score_function="dot")
        {'q1': {'d1': 82.0, 'd2': 37.0}}
    """

    def __init__(
        self,
        model: Any,
        batch_size: int = 128,
        corpus_chunk_size: int = 50_000,
        *,
        skip_same_id: bool = True,
        show_progress_bar: bool = True,
        convert_to_tensor: bool = True,
        num_threads: int | None = None,
    ) -> None:
        op = type(self).__name__
        self.model = model
        self.batch_size = as_integer(batch_size, op, "batch_size", at_least=1)
        self.corpus_chunk_size = as_integer(corpus_chunk_size, op, "corpus_chunk_size", at_least=1)
        self.skip_same_id = skip_same_id
        self.results: Results = {}
        self._num_threads = num_threads
        self._options = {
            "batch_size": self.batch_size,
            "show_progress_bar": show_progress_bar,
            "convert_to_tensor": convert_to_tensor,
        }

    def search(
        self,
        corpus: Mapping[str, Mapping[str, str]],
        queries: Mapping[str, str],
        top_k: int,
        score_function: str,
        return_sorted: bool = True,
    ) -> Results:
        """Encodes queries and corpus, and retrieves.

        Args:
            corpus: title and text of documents by id.
            queries: texts by id.
            top_k: documents per query, at least 1.
            score_function: "cos_sim" or "dot".
            return_sorted: has no effect: results are always sorted, which satisfies both values.

        Returns:
            For each query, the scores of its documents by id, best first; also kept as `results`.

        Raises:
            ValueError: another function of scores, a row with NaN, or not one row per text.
        """
        op = "ExactBeirSearch.search"
        if score_function not in _UNIT:
            raise ValueError(
                f'{op}: score_function must be "cos_sim" or "dot", got {score_function!r}'
            )
        ids = _longest_first(corpus)
        unit = _UNIT[score_function]
        vectors = self._encoded(op, "query", list(queries), list(queries.values()), unit)
        options = SearchOptions(
            op=op,
            num_threads=self._num_threads,
            exclude=_same_ids(list(queries), ids) if self.skip_same_id else None,
        )
        running = RunningSearch(vectors, top_k, options, total=len(ids))
        for begin in range(0, len(ids), self.corpus_chunk_size):
            part = ids[begin : begin + self.corpus_chunk_size]
            documents = self._encoded(op, "document", part, [corpus[id] for id in part], unit)
            fold_array(running, documents, first_id=begin)
        found = running.result()
        self.results = _by_id(list(queries), ids, SearchResult(found.scores, found.ids))
        return self.results

    def encode(self, *args: Any, **options: Any) -> NoReturn:
        """Refuses: BEIR keeps embeddings as pickles, which tilefold never reads.

        Raises:
            NotImplementedError: always; names what does the same.
        """
        raise NotImplementedError(
            "ExactBeirSearch.encode: embeddings are not written as pickles; use search, or "
            "`tilefold encode` and `tilefold search`, which keep them as safetensors"
        )

    def search_from_files(self, *args: Any, **options: Any) -> NoReturn:
        """Refuses, as `encode` does.

        Raises:
            NotImplementedError: always; names what does the same.
        """
        raise NotImplementedError(
            "ExactBeirSearch.search_from_files: pickles are never read; use search, or "
            "tilefold.search_shards on embeddings in .npy or .safetensors"
        )

    def _encoded(
        self, op: str, kind: str, ids: Sequence[str], texts: Sequence[Any], unit: bool
    ) -> Vectors:
        """Encodes texts of queries, or documents with title and text."""
        queries = kind == "query"
        encode = self.model.encode_queries if queries else self.model.encode_corpus
        name = "queries" if queries else "corpus"
        rows = as_vectors(on_host(encode(texts, **self._options)), op, f"embeddings of {name}")
        if len(rows) != len(texts):
            raise ValueError(f"{op}: the model gives {len(rows)} rows for {len(texts)} {name}")
        check_finite(rows, op, lambda row: f"the embedding of {kind} {ids[row]!r}")
        return unit_vectors(rows) if unit else marked(rows)


def _longest_first(corpus: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Returns ids in the order in which BEIR encodes: with the longest text, least padding."""

    def length(id: str) -> int:
        return len(corpus[id].get("title", "") + corpus[id].get("text", ""))

    return sorted(corpus, key=length, reverse=True)


def _same_ids(queries: Sequence[str], ids: Sequence[str]) -> list[list[int]]:
    """Returns for each query the place of the document with its id."""
    place_of = {id: place for place, id in enumerate(ids)}
    return [[place_of[id]] if id in place_of else [] for id in queries]


def _by_id(queries: Sequence[str], ids: Sequence[str], found: SearchResult) -> Results:
    return {
        query: {
            ids[place]: score for place, score in zip(places, scores, strict=True) if place >= 0
        }
        for query, places, scores in zip(
            queries, np.asarray(found.ids).tolist(), np.asarray(found.scores).tolist(), strict=True
        )
    }
