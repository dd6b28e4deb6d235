"""Collections: documents, queries and judgments, in folders of BEIR and of MS MARCO.

One pass over each file, and every complaint names the file and the line. Documents are numbered as
they come, so that judgments are plain arrays; a judged document that the corpus lacks gets a number
beyond the last one, which no search returns.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .ir_datasets_reader import dataset_split, install_hint, is_dataset_name
from .lines import Place, StrPath, filled_lines
from .passages import TITLE_FORMAT, Join, joined_title
from .qrels import Judgment, Qrels, beir_judgments, by_query, trec_judgments
from .records import json_lines

_BEIR_PARTS = "corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
_MSMARCO_PARTS = "collection.tsv, queries.<split>.tsv and qrels.<split>.tsv"
_BEIR_CORPUS = ("_id", "title", "text", "metadata")
_BEIR_QUERIES = ("_id", "text", "metadata")


@dataclass(frozen=True)
class Collection:
    """Documents, the queries judged on them, and the judgments; all in the order of the files."""

    document_ids: list[str]
    documents: list[str]  # title and text
    query_ids: list[str]
    queries: list[str]
    qrels: Qrels
    absent: tuple[str, ...] = ()  # judged but not in the corpus; numbered from len(documents) on


class Files(NamedTuple):
    """Where the parts of a collection are."""

    layout: str  # "beir" or "msmarco"
    corpus: Path
    queries: Path
    qrels: Path

    def judgments(self) -> Iterator[Judgment]:
        """What the file of judgments says."""
        read = beir_judgments if self.layout == "beir" else trec_judgments
        return read(self.qrels)


def read_beir(
    folder: StrPath, split: str = "test", *, title_format: str = TITLE_FORMAT
) -> Collection:
    """Reads `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, strictly.

    A document is its title, a space, and its text, as BEIR encodes it. Only the queries that the
    split judges are kept. Judged documents that the corpus lacks are listed in `absent` and stay
    in the judgments, as in trec_eval: nobody can find them, and recall counts them as missed.

    Args:
        folder: the BEIR folder; its files may be packed with gzip (`corpus.jsonl.gz`).
        split: name of the file in `qrels/`.
        title_format: how title and text are joined; a document without a title is its text.

    Raises:
        FileNotFoundError: a file of the layout is missing; names the splits that are there.
        ValueError: bad JSON, an unknown field, a missing or repeated id, a judgment of an unknown
            query, an empty file: with file and line.
    """
    return read_files(beir_files(Path(folder), split), title_format)


def read_msmarco(folder: StrPath, split: str, *, title_format: str = TITLE_FORMAT) -> Collection:
    """Reads `collection.tsv`, `queries.<split>.tsv` and `qrels.<split>.tsv` of MS MARCO.

    Lines are id and text between tabs, for documents also id, title and text; nothing is quoted.
    Otherwise as `read_beir`.

    Raises:
        FileNotFoundError: a file of the layout is missing; names the splits that are there.
        ValueError: another number of columns, a repeated id, a judgment of an unknown query, an
            empty file: with file and line.
    """
    return read_files(msmarco_files(Path(folder), split), title_format)


def read_collection(
    folder: StrPath, split: str = "test", *, title_format: str = TITLE_FORMAT
) -> Collection:
    """Reads a folder of BEIR or of MS MARCO, whichever it is; see `read_beir`, `read_msmarco`.

    Raises:
        FileNotFoundError: the folder has neither layout, or lacks a part of it.
        ValueError: a file is bad: with file and line.
    """
    return read_files(files_of(folder, split), title_format)


def files_of(folder: StrPath, split: str) -> Files:
    """The files of a split, in whichever layout the folder has."""
    if is_dataset_name(folder):
        return Files("beir", *dataset_split(str(folder), split))
    root = Path(folder)
    layout = layout_of(root)
    if layout is None:
        raise FileNotFoundError(
            f"{root} holds no collection: expected {_BEIR_PARTS}, or {_MSMARCO_PARTS}"
            f"{hint(root)}{install_hint(folder)}"
        )
    return beir_files(root, split) if layout == "beir" else msmarco_files(root, split)


def read_files(files: Files, title_format: str = TITLE_FORMAT) -> Collection:
    """The collection that these files hold; each is opened once."""
    corpus = read_corpus(files.layout, files.corpus, joined_title(title_format))
    document_ids, documents = list(corpus), list(corpus.values())
    corpus.clear()
    queries = read_queries(files.layout, files.queries)
    judged = by_query(files.qrels, files.judgments(), queries, files.queries.name)
    number = {name: index for index, name in enumerate(document_ids)}
    absent = tuple(
        dict.fromkeys(name for gains in judged.values() for name in gains if name not in number)
    )
    number.update((name, len(documents) + index) for index, name in enumerate(absent))
    kept = [name for name in queries if name in judged]
    numbered = [{number[name]: gain for name, gain in judged[query].items()} for query in kept]
    return Collection(
        document_ids,
        documents,
        kept,
        [queries[name] for name in kept],
        Qrels.pack(numbered),
        absent,
    )


# ---- layouts -------------------------------------------------------------------------------------


def layout_of(folder: Path) -> str | None:
    """Which layout a folder has, judging by its corpus."""
    if present(folder, "corpus.jsonl"):
        return "beir"
    return "msmarco" if present(folder, "collection.tsv") else None


def beir_files(root: Path, split: str) -> Files:
    """The files of a split, once the layout is known to be there."""
    layout = f"no BEIR folder: {{}} is missing (expected {_BEIR_PARTS})"
    names = ("corpus.jsonl", "queries.jsonl", "qrels")
    corpus, queries, qrels = (_expected(root, name, layout) for name in names)
    return Files("beir", corpus, queries, _of_split(qrels, "", split))


def msmarco_files(root: Path, split: str) -> Files:
    """The files of a split, once the layout is known to be there."""
    qrels = _of_split(root, "qrels.", split)
    return Files("msmarco", msmarco_corpus(root), msmarco_queries(root, split), qrels)


def msmarco_corpus(root: Path) -> Path:
    """The passages of a folder of MS MARCO."""
    layout = f"no MS MARCO folder: {{}} is missing (expected {_MSMARCO_PARTS})"
    return _expected(root, "collection.tsv", layout)


def msmarco_queries(root: Path, split: str) -> Path:
    """The queries of a split of MS MARCO."""
    return _expected(root, f"queries.{split}.tsv", "without {}, which the split needs")


def _expected(root: Path, name: str, problem: str) -> Path:
    path = present(root, name)
    if path is None:
        raise FileNotFoundError(f"{root} is {problem.format(name)}{hint(root)}")
    return path


def hint(root: Path) -> str:
    """Where the user may have meant, for the end of a message."""
    inside = root / "beir"
    return f"; did you mean {inside}?" if layout_of(inside) else ""


def _of_split(folder: Path, prefix: str, split: str) -> Path:
    """The file of judgments of a split."""
    found = {
        path.name.removesuffix(".gz").removesuffix(".tsv").removeprefix(prefix): path
        for path in sorted(folder.glob(f"{prefix}*"))
        if path.name.removesuffix(".gz").endswith(".tsv")
    }
    if split not in found:
        listed = ", ".join(found) or "none"
        raise FileNotFoundError(f"{folder} has no split {split!r}; it has: {listed}")
    return found[split]


def present(folder: Path, name: str) -> Path | None:
    """The file or folder, or the same packed with gzip."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.exists()), None)


# ---- texts ---------------------------------------------------------------------------------------


class _Text(NamedTuple):
    """A document or a query."""

    place: Place
    name: str
    text: str


def read_corpus(layout: str, path: Path, join: Join) -> dict[str, str]:
    """{id: title and text} of the documents of a layout."""
    if layout == "msmarco":
        return _distinct(path, _tsv_texts(path, join))
    return _distinct(path, _json_texts(path, _BEIR_CORPUS, join))


def read_queries(layout: str, path: Path) -> dict[str, str]:
    """{id: text} of the queries of a layout."""
    if layout == "msmarco":
        return _distinct(path, _tsv_texts(path))
    return _distinct(path, _json_texts(path, _BEIR_QUERIES))


def _distinct(path: Path, texts: Iterator[_Text]) -> dict[str, str]:
    """{id: text}, in the order of the file."""
    found: dict[str, str] = {}
    numbers = array("q")  # of lines
    for place, name, text in texts:
        if name in found:
            first = numbers[list(found).index(name)]
            what = "'_id'" if path.name.removesuffix(".gz").endswith(".jsonl") else "the id"
            place.fail(f"{what} {name!r} is already that of line {first}")
        found[name] = text
        numbers.append(place.line)
    if not found:
        raise ValueError(f"{path}: the file is empty")
    return found


def _json_texts(path: Path, known: Sequence[str], join: Join | None = None) -> Iterator[_Text]:
    for record in json_lines(path):
        record.only(known)
        text = record.string("text")
        if join is not None:
            text = join(record.optional("title"), text)
        yield _Text(record.place, record.identifier("_id"), text)


def _tsv_texts(path: Path, join: Join | None = None) -> Iterator[_Text]:
    """Lines of id and text between tabs; of id, title and text where titles can be joined."""
    for place, line in filled_lines(path):
        name, *texts = line.split("\t")
        if not name.strip() or len(texts) not in ((1,) if join is None else (1, 2)):
            place.fail(f"expected an id, a tab and a text, got {line[:60]!r}")
        yield _Text(place, name, texts[0] if len(texts) == 1 or join is None else join(*texts))
