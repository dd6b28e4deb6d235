"""Records: JSON objects, a line each or in an array of any size, checked field by field.

An array is decoded through a window of text that moves on with every record, so that files of many
gigabytes need the memory of one record.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from .lines import BLANKS, Place, StrPath, chunks, clipped, filled_lines
from .written_numbers import parsed_number

_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = re.compile(r"\s*(\{\s*([\"}]|\Z)|\[\s*([{\]]|\Z))")
_KEYED = re.compile(r"\s*\{[ \t\r]*(\n|\Z)")
_LONGEST_TOKEN = 16  # characters; an error nearer to the end may be that of a token cut in two


class Record(NamedTuple):
    """Named values and their place in a file; reading a field that is missing raises an error.

    >>> record = Record(Place("train.jsonl", 7), {"query": "who?", "pos": ["she"]})
    >>> record.string("query"), record.strings("pos")
    ('who?', ['she'])
    >>> record.string("id")
    Traceback (most recent call last):
    ValueError: train.jsonl:7: the field 'id' is missing; there are ['query', 'pos']
    """

    place: Place
    fields: Mapping[str, Any]
    within: str = ""  # "positive_ctxs[0]: " where the record is part of another

    def fail(self, problem: str) -> NoReturn:
        """Raises ValueError with the file, the line and the problem."""
        self.place.fail(f"{self.within}{problem}")

    def has(self, name: str) -> bool:
        """Returns whether the field is present and not null."""
        return self.fields.get(name) is not None

    def only(self, known: Collection[str]) -> None:
        """Raises ValueError for fields that are not known."""
        unknown = [name for name in self.fields if name not in known]
        if unknown:
            self.fail(f"unknown fields {unknown}; this format has {list(known)}")

    def value(self, name: str) -> Any:
        """Returns the value of a field, of any type."""
        if name not in self.fields:
            self.fail(f"the field {name!r} is missing; there are {list(self.fields)}")
        return self.fields[name]

    def string(self, name: str) -> str:
        """Returns the text of a field."""
        return self._text(name, self.value(name))

    def optional(self, name: str) -> str:
        """Returns the text of a field, or "" where it is missing or null."""
        return self.string(name) if self.has(name) else ""

    def identifier(self, name: str) -> str:
        """Returns an id, which must not be empty; an integer becomes its digits."""
        value = self.value(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value == "":
            self.fail(f"{name!r} is empty")
        return self._text(name, value)

    def first_identifier(self, *names: str) -> str:
        """Returns the id under the first of these names that is present; "" for none."""
        return next((self.identifier(name) for name in names if self.has(name)), "")

    def number(self, name: str) -> float:
        """Returns a finite number, also where it is written as text."""
        return self._number(name, self.value(name))

    def integer(self, name: str) -> int:
        """Returns an integer, also where it is written as text or as a number such as 2.0."""
        given = self.value(name)
        number = self._number(name, given)
        if not number.is_integer():
            self.fail(f"{name!r} must be an integer, got {_shown(given)}")
        return given if isinstance(given, int) else int(number)

    def strings(self, name: str) -> list[str]:
        """Returns a list of texts; empty where the field is missing or null."""
        return [self._text(f"{name}[{at}]", item) for at, item in enumerate(self._items(name))]

    def numbers(self, name: str) -> list[float]:
        """Returns a list of numbers; empty where the field is missing or null."""
        return [self._number(f"{name}[{at}]", item) for at, item in enumerate(self._items(name))]

    def record(self, name: str) -> Record:
        """Returns an object."""
        return self._record(name, self.value(name))

    def records(self, name: str) -> list[Record]:
        """Returns a list of objects; empty where the field is missing or null."""
        return [self._record(f"{name}[{at}]", item) for at, item in enumerate(self._items(name))]

    def _record(self, name: str, value: Any) -> Record:
        part = Record(self.place, value, f"{self.within}{name}: ")
        if not isinstance(value, dict):
            part.fail(f"expected a JSON object, got {_shown(value)}")
        return part

    def _items(self, name: str) -> list[Any]:
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            self.fail(f"{name!r} must be a list, got {_shown(value)}")
        return list(value)

    def _text(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            self.fail(f"{name!r} must be a string, got {_shown(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{name!r} has half a surrogate pair, which is not text")
        return value

    def _number(self, name: str, value: Any) -> float:
        number = parsed_number(value) if isinstance(value, str) else _as_float(value)
        if number is None or not math.isfinite(number):
            kind = "a number" if number is None else "finite"
            self.fail(f"{name!r} must be {kind}, got {_shown(value)}")
        return number


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
        place.fail(f"expected a JSON object, got {_shown(value)}")
    return Record(place, value)


def _as_float(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def _shown(value: Any) -> str:
    try:
        return clipped(json.dumps(value))
    except TypeError:  # what a table of Arrow may hold: dates, bytes
        return clipped(repr(value))


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
