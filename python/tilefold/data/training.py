"""Reads training data of every format into one shape, and writes it for others to train on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import columns, dpr, flagembedding, msmarco, tevatron
from ..ragged_lists import Lists
from .collection import (
    Files,
    files_of,
    msmarco_corpus,
    msmarco_queries,
    read_corpus,
    read_files,
    read_queries,
)
from .formats import chosen
from .gathering import Gathering, no_positive
from .heads import named, records
from .lines import Place, StrPath, replacing
from .passages import Example, Passage
from .qrels import FloatArray, IdArray, Judgment
from .records import Record
from .training_set import TrainingSet

_OF_RECORDS: dict[str, Callable[[Record], Example]] = {
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
) -> TrainingSet:
    """Reads queries, positives and hard negatives; the format is detected from the content.

    - DPR's JSON: hard negatives, or the other ones of a question that has no hard ones.
    - Tevatron's JSON lines, with ids and answers.
    - FlagEmbedding's JSON lines, with prompts and a teacher's scores.
    - Columns of sentence-transformers: anchor, positive, negatives, in their order, or a pair and
      its label or score (positive from 0.5 on), in JSON, a CSV or TSV file, Parquet, or a
      `datasets.Dataset`. Rows with the same anchor are one query.
    - A folder of BEIR or of MS MARCO: the queries that the split judges, on the whole corpus.
      Gains of 1 or more are positives, lower ones hard negatives.
    - Triples of MS MARCO, as texts, or as ids in a folder with `collection.tsv` and
      `queries.<split>.tsv`. Triples with the same query are one query.

    JSON may be lines or an array of any size: files are streamed, and any may be packed with gzip.
    Titles and prompts are kept in columns of their own. A passage without an id is identified by
    its title and text, so listing it twice makes one document.

    Args:
        source: a file, a folder, or a `datasets.Dataset` with one of these sets of columns.
        format: one of "dpr", "tevatron", "flagembedding", "columns", "msmarco-triples",
            "msmarco-ids", "beir", "msmarco", to leave nothing to detection. Columns of unusual
            names need it.
        split: of a folder, or of triples of ids.
        on_missing_positive: "error", or "drop" to leave out queries without positives and, of
            folders, judgments of documents that the corpus lacks.

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
    name = chosen(source, format, ("training", "collection"), "read_training")
    if name not in _WITH_SPLITS and split != "train":
        raise ValueError(f"read_training: {name} has no splits, but split is {split!r}")
    drop = on_missing_positive == "drop"
    gathering = Gathering(drop=drop)
    if name in ("beir", "msmarco"):
        return _judged(files_of(source, split), drop=drop)
    for example in _examples(name, source, split, gathering):
        gathering.add(example)
    return gathering.finish(named(source))


def write_training(path: StrPath, training: TrainingSet) -> None:
    """Writes Tevatron's JSON lines, which `read_training` reads back into the same columns.

    Documents that no query lists are not written, so those that are may have other rows when read.
    A prompt and a teacher's scores are written as fields "prompt" and "score". The file appears
    whole or not at all.

    Args:
        path: file to write; an existing one is replaced.
        training: what to write.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "train.csv").write_text("anchor,positive\\nwho?,she\\n")
    >>> write_training(folder / "train.jsonl", read_training(folder / "train.csv"))
    >>> read_training(folder / "train.jsonl").documents
    ['she']
    """
    with replacing(path) as file:
        for row in range(len(training)):
            file.write(json.dumps(tevatron.fields_of(_example(training, row))) + "\n")


def _example(training: TrainingSet, row: int) -> Example:
    positives = _passages(training, training.positives, training.positive_scores, row)
    negatives = _passages(training, training.negatives, training.negative_scores, row)
    return Example(
        Place("", row),
        training.queries[row],
        positives,
        negatives,
        name=training.query_ids[row],
        prompt=training.prompts[row],
        answers=training.answers[row],
    )


def _passages(
    training: TrainingSet, lists: Lists, scores: FloatArray | None, row: int
) -> list[Passage]:
    places = slice(lists.offsets[row], lists.offsets[row + 1])
    documents = lists.indices[places].tolist()
    given = [math.nan] * len(documents) if scores is None else scores[places].tolist()
    return [
        Passage(
            training.documents[document],
            training.titles[document],
            training.document_ids[document],
            score,
        )
        for document, score in zip(documents, given, strict=True)
    ]


# ---- from files ----------------------------------------------------------------------------------


def _examples(name: str, source: Any, split: str, gathering: Gathering) -> Iterator[Example]:
    if name == "columns":
        return columns.examples(records(source))
    if name == "msmarco-triples":
        return msmarco.triples(source)
    if name == "msmarco-ids":
        return _id_triples(Path(source), split, gathering)
    return map(_OF_RECORDS[name], records(source))


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
        no_positive(place, collection.queries[query])
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
