"""Documents and queries as records, under the names that BEIR, Tevatron, Pyserini and DPR use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .lines import Place
from .records import Record

_DOCUMENT_IDS = ("_id", "docid", "doc_id", "document_id", "pid", "passage_id", "psg_id", "id")
_QUERY_IDS = ("_id", "query_id", "qid", "id")
_DOCUMENT_TEXTS = ("text", "contents", "passage", "body", "document")
_QUERY_TEXTS = ("text", "query_text", "query", "question")
_TITLES = ("title",)
# Further fields of published corpora, which are not read: BEIR's own, addresses, embeddings of the
# Wikipedia passages that `datasets` gives, and what Tevatron has for other media.
_UNREAD = ("metadata", "url", "embeddings")
_OTHER_MEDIA = tuple(
    f"{prefix}{medium}" for prefix in ("", "query_") for medium in ("image", "video", "audio")
)


class Text(NamedTuple):
    """A document or a query."""

    place: Place
    name: str
    text: str
    title: str = ""


def document_texts_of(records: Iterable[Record]) -> Iterator[Text]:
    """Yields documents; the first record decides under which names.

    Raises:
        ValueError: no id or text, an unknown field, another value than a text: with file and line.
    """
    name, text, known = "", "", frozenset[str]()
    for record in records:
        if not name:
            name, text = _named(record, _DOCUMENT_IDS), _named(record, _DOCUMENT_TEXTS)
            known = frozenset((name, text, *_TITLES, *_UNREAD))
        _check(record, known)
        body, title = record.string(text), record.optional("title")
        yield Text(record.place, record.identifier(name), body, title)


def query_texts_of(records: Iterable[Record]) -> Iterator[Text]:
    """Yields queries; arguments and errors as those of documents."""
    name, text, known = "", "", frozenset[str]()
    for record in records:
        if not name:
            name, text = _named(record, _QUERY_IDS), _named(record, _QUERY_TEXTS)
            known = frozenset((name, text, *_UNREAD))
        _check(record, known)
        body = record.string(text)
        yield Text(record.place, record.identifier(name), body)


def is_header(cells: list[str], *, titled: bool) -> bool:
    """Returns whether the first row of a table names its columns: an id, a text, perhaps a title.

    >>> is_header(["id", "text", "title"], titled=True), is_header(["7", "text"], titled=True)
    (True, False)
    """
    ids, texts = (_DOCUMENT_IDS, _DOCUMENT_TEXTS) if titled else (_QUERY_IDS, _QUERY_TEXTS)
    known = {*ids, *texts, *_TITLES, *_UNREAD}
    return bool(set(cells) & set(ids)) and bool(set(cells) & set(texts)) and known >= set(cells)


def _named(record: Record, names: tuple[str, ...]) -> str:
    """Returns the first of these names that the record has; the first of all where it has none."""
    return next((name for name in names if name in record.fields), names[0])


def _check(record: Record, known: frozenset[str]) -> None:
    """Refuses unknown fields, and images and the like where they are not null."""
    if record.fields.keys() <= known:
        return
    media = [name for name in _OTHER_MEDIA if record.has(name)]
    if media:
        record.fail(f"{media[0]!r} is no text: only texts are read")
    record.only([*sorted(known), *(name for name in _OTHER_MEDIA if name in record.fields)])
