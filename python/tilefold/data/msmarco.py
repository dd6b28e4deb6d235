"""Triples of MS MARCO: query, relevant and other passage between tabs, as texts or as ids.

Source: the files of the MS MARCO passage ranking task, microsoft.github.io/msmarco.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .documents import Documents
from .lines import Place, StrPath, filled_lines
from .passages import Example, Passage


def triples(path: StrPath) -> Iterator[Example]:
    """Lines of three texts; nothing is quoted."""
    for place, (query, positive, negative) in _threes(path):
        yield Example(place, query, [Passage(positive)], [Passage(negative)], partial=True)


def id_triples(
    path: StrPath,
    corpus: Documents,
    rows: Mapping[str, int],
    queries: Mapping[str, str],
    *,
    drop: bool,
) -> Iterator[Example]:
    """Yields a pair of a query from each line of three ids.

    Args:
        path: the file of triples.
        corpus: all documents.
        rows: those of the documents, by id.
        queries: {id: text} of all queries.
        drop: whether a document that is not in the corpus is left out; otherwise it is an error.
    """
    for place, (query, *documents) in _threes(path):
        if query not in queries:
            place.fail(f"query {query!r} is not among the queries")
        absent = [name for name in documents if name not in rows]
        if absent and not drop:
            place.fail(f"document {absent[0]!r} is not in the collection")
        positives, negatives = (
            [Passage(corpus.texts[rows[name]], corpus.titles[rows[name]], name)]
            if name in rows
            else []
            for name in documents
        )
        yield Example(place, queries[query], positives, negatives, name=query, partial=True)


def _threes(path: StrPath) -> Iterator[tuple[Place, list[str]]]:
    for place, line in filled_lines(path):
        cells = line.split("\t")
        if len(cells) != 3:
            place.fail(
                f"expected query, positive and negative between tabs, got {len(cells)} cells"
            )
        yield place, cells
