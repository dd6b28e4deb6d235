"""Reads JSON: objects a line each, in an array of any size, or as members of one object.

An array is decoded through a window of text that moves on with every record, so that files of many
gigabytes need the memory of one record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from .lines import BLANKS, Place, StrPath, chunks, filled_lines
from .records import Record, shown_value

_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = re.compile(r"\s*(\{\s*([\"}]|\Z)|\[\s*([{\]]|\Z))")
_KEYED = re.compile(r"\s*\{[ \t\r]*(\n|\Z)")
_LONGEST_TOKEN = 16  # characters; an error nearer to the end may be that of a token cut in two


def json_records(path: StrPath) -> Iterator[Record]:
    """Yields the objects of a JSON array or of JSON lines, whichever the file holds."""
    return json_array(path) if first_character(path) == "[" else json_lines(path)


def first_character(path: StrPath) -> str:
    """Returns the first character that is not white space; "" where a file has none."""
    return _start(path).strip(BLANKS)[:1]


def starts_as_json(path: StrPath) -> bool:
    """Returns whether a file begins like an object, or like an array of objects.

    Text may begin with a bracket, too: a query such as "[citation needed] what is it?".
    """
    return _JSON.match(_start(path)) is not None


def _start(path: StrPath) -> str:
    """Returns the first piece of a file that is not blank; a line may be a gigabyte long."""
    return next((text for text in chunks(path) if text.strip(BLANKS)), "")


def json_lines(path: StrPath) -> Iterator[Record]:
    """Yields the JSON object of every line that is not blank."""
    for place, text in filled_lines(path):
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            if place.line == 1 and text.strip() == "{":
                place.fail("one JSON object of several lines: expected one a line, or an array")
            place.fail(f"not valid JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:  # a number or a nesting beyond all limits
            place.fail(f"cannot decode JSON: {error}")
        yield _record(place, value)


def json_array(path: StrPath) -> Iterator[Record]:
    """Yields the objects of a JSON array; only one and a piece of the file are in memory."""
    window = _Window(path)
    if window.take() != "[":
        window.fail("expected a JSON array")
    if window.peek() == "]":
        window.take()
    else:
        while True:
            yield _record(*window.decode())
            separator = window.take()
            if separator == "]":
                break
            if separator != ",":
                window.fail(
                    "expected ',' or ']' after a record" if separator else "the array is cut off"
                )
    if window.peek():
        window.fail("the array has ended, but the file goes on")


def is_keyed(path: StrPath) -> bool:
    """Returns whether a file is one object of several lines, whose members are records."""
    return _KEYED.match(_start(path)) is not None


def json_members(path: StrPath) -> Iterator[tuple[str, Record]]:
    """Yields the members of one object and their keys; only one member is in memory.

    Raises:
        ValueError: broken JSON, a member that is no object, a key that repeats: with file and line.
    """
    window = _Window(path, "key or value {} of the object")
    window.take()
    keys: set[str] = set()
    separator = window.take() if window.peek() == "}" else ","
    while separator == ",":
        place, key = window.decode()
        if not isinstance(key, str) or window.take() != ":":
            place.fail("expected a key, ':' and a record")
        if key in keys:
            place.fail(f"key {key!r} occurs twice")
        keys.add(key)
        yield key, _record(*window.decode())
        separator = window.take()
        if separator not in (",", "}"):
            window.fail(
                "expected ',' or '}' after a record" if separator else "the object is cut off"
            )
    if window.peek():
        window.fail("the object has ended, but the file goes on")


def _record(place: Place, value: Any) -> Record:
    if not isinstance(value, dict):
        place.fail(f"expected a JSON object, got {shown_value(value)}")
    return Record(place, value)


class _Window:
    """The part of a JSON text that is being decoded."""

    def __init__(self, path: StrPath, numbered: str = "record {} of the array") -> None:
        self._path = path
        self._numbered = numbered  # the value that is being decoded, for error messages
        self._chunks = chunks(path)
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0  # the next character
        self._line, self._counted = 1, 0  # the line of the character `_counted`
        self._records = 0

    def peek(self) -> str:
        """Returns the next character that is not white space; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._extend():
                return ""

    def take(self) -> str:
        """Returns the same character and moves past it."""
        character = self.peek()
        self._at += len(character)
        return character

    def decode(self) -> tuple[Place, Any]:
        """Decodes the next value; returns it with the place where it begins."""
        self.peek()
        place = self._place(self._at)
        self._records += 1
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                return place, value
            except json.JSONDecodeError as error:
                cut = (
                    error.msg.startswith("Unterminated string")
                    or error.pos >= len(self._text) - _LONGEST_TOKEN
                )
                if not (cut and self._extend()):
                    self._place(error.pos).fail(f"not valid JSON: {error.msg}, in {self._shown()}")
            except (ValueError, RecursionError) as error:
                place.fail(f"cannot decode JSON: {error}, in {self._shown()}")

    def fail(self, problem: str) -> NoReturn:
        """Raises ValueError for the character before the next one."""
        self._place(max(self._at - 1, 0)).fail(problem)

    def _extend(self) -> bool:
        """Reads at least as much again as is in the window; returns whether there was anything."""
        self._place(self._at)
        kept = self._text[self._at :]
        pieces = [kept]
        for piece in self._chunks:
            pieces.append(piece)
            if sum(map(len, pieces[1:])) >= len(kept):  # so that a long record costs linear time
                break
        self._text, self._at, self._counted = "".join(pieces), 0, 0
        return len(self._text) > len(kept)

    def _shown(self) -> str:
        return self._numbered.format(self._records)

    def _place(self, at: int) -> Place:
        if at < self._counted:
            return Place(self._path, self._line)
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        return Place(self._path, self._line)
