"""Collections: documents, queries and judgments, in folders of BEIR and of MS MARCO.

One pass over each file, and every error names the file and the line. Documents are numbered as
they come, so that judgments are plain arrays; a judged document that the corpus lacks gets a number
beyond the last one, which no search returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .collection_texts import read_corpus, read_queries
from .layouts import Files, beir_files, files_of, msmarco_files
from .lines import StrPath
from .qrels import Qrels, by_query
from .text_columns import fill_column


@dataclass(frozen=True)
class Collection:
    """Documents, the queries judged on them, and the judgments; all in the order of the files.

    Titles are a column beside the texts. They are joined only when documents are encoded, as by
    `BiEncoder.encode_documents(documents, titles)`, or formatted: see `tilefold.data.prompts`.

    Args:
        document_ids: m unique ids.
        documents: m texts, without their titles.
        query_ids: n unique ids.
        queries: n texts.
        qrels: judgments, by number of query and document.
        absent: ids of documents that are judged but not in the corpus, numbered from m on.
        titles: m titles, "" where a document has none; an empty list for no titles at all.
        prompts: n prompts (instructions), "" where a query has none; an empty list for none at all.

    Raises:
        ValueError: titles of another number than documents, or prompts than queries.
    """

    document_ids: list[str]
    documents: list[str]
    query_ids: list[str]
    queries: list[str]
    qrels: Qrels
    absent: tuple[str, ...] = ()
    titles: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, length in (("titles", len(self.documents)), ("prompts", len(self.queries))):
            fill_column(self, name, length)
            if len(getattr(self, name)) != length:
                raise ValueError(
                    f"Collection: expected {length} {name}, got {len(getattr(self, name))}"
                )


def read_beir(folder: StrPath, split: str = "test") -> Collection:
    """Reads `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, strictly.

    Titles and texts stay apart. Only the queries that the split judges are kept. Judged documents
    that the corpus lacks are listed in `absent` and stay in the judgments, as in trec_eval: no
    search can find them, and recall counts them as missed.

    Args:
        folder: the BEIR folder; its files may be packed with gzip (`corpus.jsonl.gz`).
        split: name of the file in `qrels/`.

    Raises:
        FileNotFoundError: a file of the layout is missing; names the splits that are there.
        ValueError: bad JSON, an unknown field, a missing or repeated id, a judgment of an unknown
            query, an empty file: with file and line.
    """
    return read_files(beir_files(Path(folder), split))


def read_msmarco(folder: StrPath, split: str) -> Collection:
    """Reads `collection.tsv`, `queries.<split>.tsv` and `qrels.<split>.tsv` of MS MARCO.

    Lines are id and text between tabs, for documents also id, title and text; nothing is quoted.
    Otherwise as `read_beir`.

    Raises:
        FileNotFoundError: a file of the layout is missing; names the splits that are there.
        ValueError: another number of columns, a repeated id, a judgment of an unknown query, an
            empty file: with file and line.
    """
    return read_files(msmarco_files(Path(folder), split))


def read_collection(folder: StrPath, split: str = "test") -> Collection:
    """Reads a folder of BEIR or of MS MARCO, whichever it is; see `read_beir`, `read_msmarco`.

    Raises:
        FileNotFoundError: the folder has neither layout, or lacks a part of it.
        ValueError: a file is bad: with file and line.
    """
    return read_files(files_of(folder, split))


def read_files(files: Files) -> Collection:
    """Reads the collection that these files hold, opening each once."""
    corpus = read_corpus(files.layout, files.corpus)
    queries = read_queries(files.layout, files.queries)
    judged = by_query(files.qrels, files.judgments(), queries, files.queries.name)
    number = corpus.rows()
    absent = tuple(
        dict.fromkeys(name for gains in judged.values() for name in gains if name not in number)
    )
    number.update((name, len(corpus) + index) for index, name in enumerate(absent))
    kept = [name for name in queries if name in judged]
    numbered = [{number[name]: gain for name, gain in judged[query].items()} for query in kept]
    return Collection(
        corpus.ids,
        corpus.texts,
        kept,
        [queries[name] for name in kept],
        Qrels.pack(numbered),
        absent,
        corpus.titles,
    )
