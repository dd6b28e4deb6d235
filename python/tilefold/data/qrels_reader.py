"""read_qrels(): reads judgments by themselves, without a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .formats import checked_format
from .heads import records
from .lines import StrPath
from .qrels import (
    Judgment,
    Judgments,
    Qrels,
    beir_judgments,
    by_query,
    record_judgments,
    trec_judgments,
)


def read_qrels(path: StrPath, *, format: str | None = None) -> Judgments:
    """Reads judgments by themselves: four columns of TREC, or the three of BEIR, as MTEB's JSON.

    With a collection they are part of it, see `read_collection`.

    Args:
        path: the file.
        format: "trec-qrels", "beir-qrels" or "mteb-qrels", to leave nothing to detection.

    Raises:
        ValueError: neither format, another number of columns, a gain that is no integer, a document
            judged twice for a query, an empty file: with file and line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "qrels.txt"
    >>> _ = path.write_text("q1 0 d7 1\\nq1 0 d9 0\\n")
    >>> read_qrels(path).document_ids
    ['d7', 'd9']
    """
    name = checked_format(path, format, ("qrels",), "read_qrels")
    judged = by_query(path, _JUDGMENTS[name](path), None, "")
    number: dict[str, int] = {}
    numbered = [
        {number.setdefault(document, len(number)): gain for document, gain in gains.items()}
        for gains in judged.values()
    ]
    return Judgments(list(judged), list(number), Qrels.pack(numbered))


_JUDGMENTS: dict[str, Callable[[StrPath], Iterator[Judgment]]] = {
    "trec-qrels": trec_judgments,
    "beir-qrels": beir_judgments,
    "mteb-qrels": lambda path: record_judgments(records(path)),
}
