"""Opens data files: plain or gzip, UTF-8, every line with its number. No other module does."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

StrPath = str | os.PathLike[str]

# Those of C, and so of trec_eval. `str.split` and `str.strip` would also take U+00A0, U+3000 and
# others, which are parts of ids and texts.
BLANKS = " \t\n\v\f\r"

_GZIP = b"\x1f\x8b"
_BROKEN_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
_CHUNK = 1 << 20  # bytes; a record of DPR's files has about 0.1 MB


class Place(NamedTuple):
    """A line of a file, for error messages."""

    path: StrPath
    line: int  # from 1; a row where there are no lines

    def fail(self, problem: str) -> NoReturn:
        """Raises ValueError with the file, the line and the problem."""
        raise ValueError(f"{os.fspath(self.path)}:{self.line}: {problem}")


def lines(path: StrPath) -> Iterator[tuple[Place, str]]:
    """Yields every line with its place and its line ending, including blank ones.

    Raises:
        ValueError: bytes that are not UTF-8, or a broken gzip file: with file and line.
    """
    place = Place(path, 1)
    with _failing_at(lambda: place), _opened(path) as file:
        for number, raw in enumerate(file, 1):
            place = Place(path, number)
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                place.fail(f"not UTF-8: {error.reason} at byte {error.start + 1}")
            yield place, text


def filled_lines(path: StrPath) -> Iterator[tuple[Place, str]]:
    """Yields every line that is not blank, without its line ending."""
    for place, text in lines(path):
        if text.strip() or text.strip(BLANKS):  # the first is faster, and mostly enough
            yield place, text.rstrip("\r\n")


def chunks(path: StrPath) -> Iterator[str]:
    """Yields the text of a file in pieces of about a megabyte: it may be one long line.

    Raises:
        ValueError: bytes that are not UTF-8, or a broken gzip file: with file and line.
    """
    place = Place(path, 1)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with _failing_at(lambda: place), _opened(path) as file:
        while True:
            raw = file.read(_CHUNK)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].count(b"\n")
                Place(path, place.line + before).fail(f"not UTF-8: {error.reason}")
            if not raw:
                return
            place = Place(path, place.line + text.count("\n"))
            yield text


def opening(path: StrPath, size: int = 4) -> bytes:
    """Returns the first bytes of a file, decompressed."""
    with _failing_at(lambda: Place(path, 1)), _opened(path) as file:
        return file.read(size)


def columns_of(text: str, most: int = -1) -> list[str]:
    r"""Splits a line at runs of blanks into all its columns, or the last one holding the rest.

    >>> columns_of("q1  d\u00a07 rest of it", 3)
    ['q1', 'd\xa07', 'rest of it']
    """
    splits = most - 1 if most > 0 else -1
    # Four separators of ASCII are blanks to `str.split`, too. Looking for each is four times as
    # fast as a regular expression.
    if text.isascii() and not (
        "\x1c" in text or "\x1d" in text or "\x1e" in text or "\x1f" in text
    ):
        return text.split(None, splits)
    return [part.decode() for part in text.encode().split(None, splits)]  # at ASCII blanks alone


def clipped(text: str) -> str:
    """Shortens a text to 60 characters."""
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextlib.contextmanager
def _opened(path: StrPath) -> Iterator[io.BufferedIOBase]:
    """Opens a file; a gzip file is decompressed, whatever its name."""
    with Path(path).open("rb") as file:
        if file.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


@contextlib.contextmanager
def _failing_at(place: Callable[[], Place]) -> Iterator[None]:
    try:
        yield
    except _BROKEN_GZIP as error:
        place().fail(f"the gzip file is broken at or after this line: {error}")
