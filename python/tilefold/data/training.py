"""read_training(): reads training data of every format into one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import columns, dpr, flagembedding, msmarco, tevatron
from ..ragged_lists import Lists
from .collection import read_files
from .collection_texts import read_corpus, read_queries
from .formats import checked_format
from .gathering import Gathering, fail_without_positive
from .heads import has_records, head_of, records, source_name
from .layouts import Files, files_of, msmarco_corpus, msmarco_queries, present
from .lines import Place, StrPath
from .passages import Example
from .qrels import IdArray, Judgment
from .records import Record
from .tables import is_dataset
from .texts import read_documents
from .training_set import TrainingSet

_RECORD_READERS: dict[str, Callable[[Record], Example]] = {
    "dpr": dpr.example,
    "tevatron": tevatron.example,
    "flagembedding": flagembedding.example,
}
_WITH_SPLITS = ("beir", "msmarco", "msmarco-ids")


def read_training(
    source: Any,
    *,
    format: str | None = None,
    split: str = "train",
    on_missing_positive: Literal["error", "drop"] = "error",
    score_threshold: float | None = None,
    corpus: StrPath | None = None,
) -> TrainingSet:
    """Reads queries, positives and hard negatives; the format is detected from the content.

    - DPR's JSON: hard negatives, or the other ones of a question that has no hard ones.
    - Tevatron's JSON lines, with ids and answers; or with ids of passages in a corpus (Tevatron 2).
    - FlagEmbedding's JSON lines, with prompts and a teacher's scores.
    - Columns of sentence-transformers: anchor, positive, negatives, in their order, perhaps with a
      list of a teacher's scores; or a pair and its label, 1 or 0; in JSON, a CSV or TSV file with a
      header, Parquet, or a `datasets.Dataset`. Rows with the same anchor are one query.
    - A folder of BEIR or of MS MARCO: the queries that the split judges, on the whole corpus.
      Gains of 1 or more are positives, lower ones hard negatives.
    - Triples of MS MARCO, as texts, or as ids in a folder with `collection.tsv` and
      `queries.<split>.tsv`. Triples with the same query are one query.

    JSON may be lines or an array of any size: files are streamed, and any may be packed with gzip.
    Titles and prompts are kept in columns of their own. A passage without an id is identified by
    its title and text, so listing it twice makes one document.

    Args:
        source: a file, a folder, or a `datasets.Dataset` with one of these sets of columns.
        format: one of "dpr", "tevatron", "tevatron-ids", "flagembedding", "columns",
            "msmarco-triples", "msmarco-ids", "beir", "msmarco", to leave nothing to detection.
            Anchors and positives under unusual names need it.
        split: of a folder, or of triples of ids.
        on_missing_positive: "error", or "drop" to leave out queries without positives and, of
            folders, judgments of documents that the corpus lacks.
        score_threshold: of pairs with a score instead of a label: the score from which a pair is a
            positive. Without it they are an error, since scores have no such point of their own.
        corpus: of "tevatron-ids": the file or folder with the documents, as `read_documents` takes
            it; by default corpus.jsonl or corpus.parquet beside the file.

    Raises:
        ValueError: an unknown format, bad JSON, unknown or missing fields, a repeated id, a
            document with two titles or texts, one that is positive and negative of a query, a query
            without a positive, a judgment of an absent document, an empty file: with file and line.
        FileNotFoundError: the file, or a part of the folder, is missing.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "train.jsonl"
    >>> _ = path.write_text('{"query": "who?", "pos": ["she"], "neg": ["there", "then"]}')
    >>> data = read_training(path)
    >>> data.queries, data.documents, data.negatives.indices
    (['who?'], ['she', 'there', 'then'], array([1, 2]))
    """
    if on_missing_positive not in ("error", "drop"):
        raise ValueError(
            f"read_training: expected on_missing_positive to be 'error' or 'drop', "
            f"got {on_missing_positive!r}"
        )
    name = checked_format(source, format, ("training", "collection"), "read_training")
    _check_options(name, split, score_threshold, corpus)
    drop = on_missing_positive == "drop"
    gathering = Gathering(drop=drop)
    if name in ("beir", "msmarco"):
        return _judged(files_of(source, split), drop=drop)
    if name == "columns":
        found = columns.examples(_column_records(source), score_threshold)
    elif name == "tevatron-ids":
        found = _id_examples(source, corpus, gathering)
    else:
        found = _examples(name, source, split, gathering)
    for example in found:
        gathering.add(example)
    return gathering.finish(source_name(source))


def _check_options(
    name: str, split: str, score_threshold: float | None, corpus: StrPath | None
) -> None:
    """Refuses options that have no effect on a format."""
    if name not in _WITH_SPLITS and split != "train":
        raise ValueError(f"read_training: {name} has no splits, but split is {split!r}")
    if score_threshold is not None and name != "columns":
        raise ValueError(f"read_training: score_threshold goes with columns, but this is {name}")
    if score_threshold is not None and not np.isfinite(score_threshold):
        raise ValueError(f"read_training: score_threshold must be finite, got {score_threshold!r}")
    if corpus is not None and name != "tevatron-ids":
        raise ValueError(f"read_training: corpus goes with tevatron-ids, but this is {name}")


# ---- from files ----------------------------------------------------------------------------------


def _examples(name: str, source: Any, split: str, gathering: Gathering) -> Iterator[Example]:
    if name == "msmarco-triples":
        return msmarco.triples(source)
    if name == "msmarco-ids":
        return _id_triples(Path(source), split, gathering)
    return map(_RECORD_READERS[name], records(source))


def _column_records(source: Any) -> Iterator[Record]:
    """Yields records of columns; the first row of a table must be a header."""
    if not (is_dataset(source) or has_records(source)):
        header = list(head_of(source).header)
        if not columns.names_a_column(header):
            Place(source, 1).fail(
                f"expected a header with names such as anchor and positive, got {header}"
            )
    return records(source)


def _id_examples(source: Any, corpus: StrPath | None, gathering: Gathering) -> Iterator[Example]:
    """Reads queries with ids of passages, after the corpus."""
    if corpus is None:
        found = None if is_dataset(source) else present(Path(source).parent, "corpus.jsonl")
        if found is None:
            raise FileNotFoundError(
                f"{source_name(source)} has ids of passages: their texts are expected in "
                "corpus.jsonl beside it, or name a file or folder as read_training(corpus=...)"
            )
        corpus = found
    documents = read_documents(corpus)
    rows = gathering.corpus(documents)
    return (
        tevatron.id_example(record, documents, rows, drop=gathering.drop)
        for record in records(source)
    )


def _id_triples(path: Path, split: str, gathering: Gathering) -> Iterator[Example]:
    corpus = read_corpus("msmarco", msmarco_corpus(path.parent))
    queries = read_queries("msmarco", msmarco_queries(path.parent, split))
    rows = gathering.corpus(corpus)
    return msmarco.id_triples(path, corpus, rows, queries, drop=gathering.drop)


# ---- from collections ----------------------------------------------------------------------------


def _judged(files: Files, *, drop: bool) -> TrainingSet:
    """Reads the judged queries of a collection, with all its documents."""
    collection = read_files(files)
    if collection.absent and not drop:
        place = _judgment(files, document=collection.absent[0]).place
        place.fail(
            f"document {collection.absent[0]!r} is not in {files.corpus.name}; "
            f"on_missing_positive='drop' leaves it out"
        )
    offsets, ids, gains = collection.qrels
    owners = np.repeat(np.arange(len(collection.queries)), np.diff(offsets))
    relevant, present = gains >= 1, ids < len(collection.documents)
    answered = np.isin(np.arange(len(collection.queries)), owners[relevant & present])
    if not (answered.all() or drop):
        query = int((~answered).argmax())
        place = _judgment(files, query=collection.query_ids[query]).place
        fail_without_positive(place, collection.queries[query])
    if not answered.any():
        raise ValueError(f"{files.qrels}: no query has a positive")
    kept = np.flatnonzero(answered)
    return TrainingSet(
        query_ids=[collection.query_ids[row] for row in kept],
        queries=[collection.queries[row] for row in kept],
        document_ids=collection.document_ids,
        documents=collection.documents,
        positives=_lists(owners, ids, relevant & present, kept),
        negatives=_lists(owners, ids, ~relevant & present, kept),
        answers=[()] * len(kept),
        titles=collection.titles,
    )


def _judgment(files: Files, *, query: str | None = None, document: str | None = None) -> Judgment:
    """Returns the first judgment of a query or of a document."""
    return next(
        found for found in files.judgments() if query == found.query or document == found.document
    )


def _lists(owners: IdArray, ids: IdArray, listed: NDArray[np.bool_], kept: IdArray) -> Lists:
    """Returns the listed documents of the queries that are kept; owners are sorted."""
    listed = listed & np.isin(owners, kept)
    counts = np.bincount(owners[listed], minlength=kept[-1] + 1)[kept]
    return Lists(np.cumsum([0, *counts], dtype=np.int64), ids[listed])
