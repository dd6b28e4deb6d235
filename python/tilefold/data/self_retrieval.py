"""Finds documents that are the query itself, by id or by text, and removes them from rankings.

ArguAna and Quora in BEIR have their queries among their documents. Such a document scores highest
for its query and answers nothing. BEIR removes documents with the id of the query from results
(``ignore_identical_ids``), Pyserini does so on request (``--remove-query``), and MTEB for tasks
that need it; trec_eval keeps them. Ids can also coincide by accident, where queries and documents
are numbered apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..ragged_lists import Lists, united
from ..retrieval.running_search import SearchResult
from .collection import Collection
from .ir_datasets_reader import is_dataset_name
from .layouts import layout_of
from .qrels import Qrels, beir_judgments
from .training_set import TrainingSet

Identity = Literal["id", "text", "both", "none"]
IDENTITIES: tuple[Identity, ...] = get_args(Identity)
_Texts = Collection | TrainingSet  # both have ids, texts and titles as columns


def own_documents(data: _Texts, by: Identity = "both") -> Lists:
    """Lists, for each query, the documents that are the query itself.

    Args:
        data: a `Collection` or a `TrainingSet`.
        by: "id" for documents with the id of the query, "text" for those with its text (see
            `same_texts`), "both" for documents with either, "none" for no documents.

    Returns:
        Rows of documents for each query, as ``exclude`` of `tilefold.search` and `mine` takes them.

    Raises:
        ValueError: an unknown `by`.

    >>> from tilefold.data import Collection, Qrels
    >>> qrels = Qrels.pack([{1: 1}])
    >>> data = Collection(["a", "b"], ["Tax cars.", "No."], ["a"], ["Tax cars."], qrels)
    >>> own_documents(data).of(0)
    array([0])
    """
    checked_identity(by, "own_documents")
    own = Lists.pack([()] * len(data.queries))
    if by in ("id", "both"):
        own = same_ids(data.query_ids, data.document_ids)
    if by in ("text", "both"):
        same = same_texts(data.queries, data.documents, data.titles)
        own = united(own, same, max(1, len(data.documents)))
    return own


def same_ids(query_ids: Sequence[str], document_ids: Sequence[str]) -> Lists:
    """Lists, for each query, the documents with its id.

    >>> same_ids(["q1", "d2"], ["d1", "d2"])
    Lists(offsets=array([0, 0, 1]), indices=array([1]))
    """
    queries = _rows_by_name(query_ids)
    pairs = [
        (query, row)
        for row, name in enumerate(document_ids)
        if name in queries
        for query in queries[name]
    ]
    return _lists(pairs, len(query_ids))


def same_texts(
    queries: Sequence[str], documents: Sequence[str], titles: Sequence[str] | None = None
) -> Lists:
    """Lists, for each query, the documents with its text.

    A document's text is compared without its title, and with the title and a blank before it.
    White space at either end does not count; an empty query has no such documents.

    Args:
        queries: n texts, without prompts.
        documents: m texts, without titles.
        titles: m titles, "" where a document has none; None for no titles at all.

    >>> same_texts(["Tax cars."], ["Tax cars.", "No."]).of(0)
    array([0])
    """
    wanted = _rows_by_name([text.strip() for text in queries])
    wanted.pop("", None)
    # Comparing lengths first saves hashing most documents.
    lengths = {len(text) for text in wanted}
    pairs: list[tuple[int, int]] = []
    for row, document in enumerate(documents):
        text = document.strip()
        title = titles[row].strip() if titles else ""
        if len(text) in lengths and text in wanted:
            pairs += [(query, row) for query in wanted[text]]
        if title and len(title) + len(text) + bool(text) in lengths:
            pairs += [(query, row) for query in wanted.get(f"{title} {text}".rstrip(), ())]
    return _lists(pairs, len(queries))


def without_own(found: SearchResult, own: Lists, k: int) -> SearchResult:
    """Removes each query's own documents from a ranking, and keeps the k best of the others.

    Args:
        found: scores and ids ``[n, width]``, best first, -1 where there is no result.
        own: of the n queries, from `own_documents`.
        k: results per query that are kept.

    Returns:
        `SearchResult` ``[n, min(k, width)]``, padded with -inf and -1.

    >>> ranking = SearchResult(np.float32([[3, 2, 1]]), np.array([[5, 7, 9]]))
    >>> without_own(ranking, Lists.pack([[5]]), k=2).ids
    array([[7, 9]])
    """
    if not len(own.indices):
        return SearchResult(found.scores[:, :k], found.ids[:, :k])
    scores, ids = np.array(found.scores), np.array(found.ids)
    m = int(max(ids.max(initial=-1), own.indices.max(initial=-1))) + 1
    keys = np.arange(len(ids))[:, None] * m + ids
    removed = (ids >= 0) & np.isin(keys, own.keys(m))
    scores[removed], ids[removed] = -np.inf, -1
    order = np.argsort(removed, axis=1, kind="stable")[:, :k]
    return SearchResult(*(np.take_along_axis(array, order, axis=1) for array in (scores, ids)))


def chosen_identity(
    choice: str, source: Any, data: _Texts, relevant: Lists, *, texts: bool
) -> Identity:
    """Returns the rule that a choice stands for.

    "auto" is BEIR's rule for BEIR's collections: documents with the id of the query are removed.
    If one of them is known to be relevant to the query, then queries and documents are numbered
    apart, and ids are not compared.

    Args:
        choice: "auto" or a rule of `own_documents`.
        source: where the data were read: a folder in BEIR's layout or a name of ir_datasets such as
            "beir/arguana" has BEIR's rule.
        data: a `Collection` or a `TrainingSet`.
        relevant: documents that are relevant to each query.
        texts: whether "auto" compares texts as well, as mining and training do.

    Raises:
        ValueError: an unknown choice.
    """
    if choice != "auto":
        return checked_identity(choice, "remove_query")
    by_id = follows_beir(source) and not _any_relevant(data, relevant)
    if texts:
        return "both" if by_id else "text"
    return "id" if by_id else "none"


def searched_identity(source: Any) -> Identity:
    """Returns the rule of "auto" for queries that are searched, whose judgments are not needed.

    Args:
        source: where the queries were read; of a folder the judgments of all splits show whether
            queries and documents are numbered apart.
    """
    if not follows_beir(source):
        return "none"
    for path in [] if is_dataset_name(source) else sorted(Path(source, "qrels").glob("*.tsv*")):
        with contextlib.suppress(ValueError):  # a file of another kind
            for judgment in beir_judgments(path):
                if judgment.query == judgment.document and judgment.gain >= 1:
                    return "none"
    return "id"


def follows_beir(source: Any) -> bool:
    """Returns whether a source is a collection in BEIR's layout, or one of BEIR by its name."""
    if is_dataset_name(source):
        return str(source).startswith("beir/")
    return isinstance(source, str | Path) and layout_of(Path(source)) == "beir"


def relevant_documents(qrels: Qrels) -> Lists:
    """Lists, for each query, the documents that are judged relevant (gain 1 or more)."""
    relevant = qrels.gains >= 1
    owners = np.repeat(np.arange(len(qrels.offsets) - 1), np.diff(qrels.offsets))[relevant]
    counts = np.bincount(owners, minlength=len(qrels.offsets) - 1)
    return Lists(np.concatenate([[0], np.cumsum(counts)]), qrels.ids[relevant])


def checked_identity(by: str, op: str) -> Identity:
    """Checks and returns the name of a rule.

    Raises:
        ValueError: there is no rule of that name.
    """
    for known in IDENTITIES:
        if by == known:
            return known
    raise ValueError(f"{op}: expected one of {', '.join(IDENTITIES)}, got {by!r}")


def _any_relevant(data: _Texts, relevant: Lists) -> bool:
    own = same_ids(data.query_ids, data.document_ids)
    m = int(max(own.indices.max(initial=0), relevant.indices.max(initial=0))) + 1
    return bool(np.isin(own.keys(m), relevant.keys(m)).any())


def _rows_by_name(names: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return rows


def _lists(pairs: list[tuple[int, int]], n: int) -> Lists:
    """Packs pairs of queries and documents, of which documents rise."""
    owners, rows = np.array(pairs, np.int64).reshape(-1, 2).T
    counts = np.bincount(owners, minlength=n)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Lists(offsets, rows[np.argsort(owners, kind="stable")])
