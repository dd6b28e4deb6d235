"""Finds the files of a collection in a folder, in the layout of BEIR or of MS MARCO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .ir_datasets_reader import dataset_split, install_hint, is_dataset_name
from .lines import StrPath
from .qrels import Judgment, beir_judgments, record_judgments, trec_judgments
from .tables import named_records

_BEIR_PARTS = "corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
# MTEB publishes judgments as JSON lines, too; where a folder has several, they say the same.
_JUDGMENTS = (".tsv", ".jsonl", ".parquet")
_MSMARCO_PARTS = "collection.tsv, queries.<split>.tsv and qrels.<split>.tsv"


class Files(NamedTuple):
    """Paths of the parts of a collection."""

    layout: str  # "beir" or "msmarco"
    corpus: Path
    queries: Path
    qrels: Path

    def judgments(self) -> Iterator[Judgment]:
        """Yields the judgments of the file."""
        if self.layout != "beir":
            return trec_judgments(self.qrels)
        if self.qrels.name.removesuffix(".gz").endswith(".tsv"):
            return beir_judgments(self.qrels)
        return record_judgments(named_records(self.qrels))


def files_of(folder: StrPath, split: str) -> Files:
    """Finds the files of a split, in whichever layout the folder has, or of a data set by name."""
    if is_dataset_name(folder):
        return Files("beir", *dataset_split(str(folder), split))
    root = Path(folder)
    layout = layout_of(root)
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {root}{install_hint(folder)}")
    if layout is None:
        raise FileNotFoundError(
            f"{root} holds no collection: expected {_BEIR_PARTS}, or "
            f"{_MSMARCO_PARTS}{nested_folder_hint(root)}{install_hint(folder)}"
        )
    return beir_files(root, split) if layout == "beir" else msmarco_files(root, split)


def layout_of(folder: Path) -> str | None:
    """Returns the layout of a folder, judging by its corpus; None for neither."""
    if present(folder, "corpus.jsonl"):
        return "beir"
    return "msmarco" if present(folder, "collection.tsv") else None


def beir_files(root: Path, split: str) -> Files:
    """Finds the files of a split of a BEIR folder."""
    layout = f"no BEIR folder: {{}} is missing (expected {_BEIR_PARTS})"
    names = ("corpus.jsonl", "queries.jsonl", "qrels")
    corpus, queries, qrels = (_expected(root, name, layout) for name in names)
    return Files("beir", corpus, queries, _judgments_file(qrels, "", split))


def msmarco_files(root: Path, split: str) -> Files:
    """Finds the files of a split of an MS MARCO folder."""
    qrels = _judgments_file(root, "qrels.", split)
    return Files("msmarco", msmarco_corpus(root), msmarco_queries(root, split), qrels)


def msmarco_corpus(root: Path) -> Path:
    """Finds the passages of an MS MARCO folder."""
    layout = f"no MS MARCO folder: {{}} is missing (expected {_MSMARCO_PARTS})"
    return _expected(root, "collection.tsv", layout)


def msmarco_queries(root: Path, split: str) -> Path:
    """Finds the queries of a split of MS MARCO."""
    return _expected(root, f"queries.{split}.tsv", "without {}, which the split needs")


def _expected(root: Path, name: str, problem: str) -> Path:
    path = present(root, name)
    if path is None:
        raise FileNotFoundError(f"{root} is {problem.format(name)}{nested_folder_hint(root)}")
    return path


def nested_folder_hint(root: Path) -> str:
    """Returns the end of an error message that names the folder inside, if it is a collection."""
    inside = root / "beir"
    return f"; did you mean {inside}?" if layout_of(inside) else ""


def _judgments_file(folder: Path, prefix: str, split: str) -> Path:
    """Finds the file of judgments of a split."""
    found: dict[str, Path] = {}
    for ending in _JUDGMENTS if not prefix else _JUDGMENTS[:1]:
        named = {
            path.name.removesuffix(".gz").removesuffix(ending).removeprefix(prefix): path
            for path in sorted(folder.glob(f"{prefix}*"))
            if path.name.removesuffix(".gz").endswith(ending)
        }
        found = named | found
    if split not in found:
        listed = ", ".join(found) or "none"
        raise FileNotFoundError(f"{folder} has no split {split!r}; it has: {listed}")
    return found[split]


def present(folder: Path, name: str) -> Path | None:
    """Finds a file or folder, the file compressed with gzip, or in place of JSON lines as Parquet.

    Returns None if there is neither.
    """
    candidates = [folder / name, folder / f"{name}.gz"]
    if name.endswith(".jsonl"):
        candidates.append(folder / f"{name.removesuffix('.jsonl')}.parquet")
    return next((path for path in candidates if path.exists()), None)
