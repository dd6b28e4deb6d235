"""Record: named values of a line, a row or a JSON object, checked field by field."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn

from .lines import Place, clipped
from .written_numbers import parsed_number


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
            self.fail(f"{name!r} must be an integer, got {shown_value(given)}")
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
            part.fail(f"expected a JSON object, got {shown_value(value)}")
        return part

    def _items(self, name: str) -> list[Any]:
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            self.fail(f"{name!r} must be a list, got {shown_value(value)}")
        return list(value)

    def _text(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            self.fail(f"{name!r} must be a string, got {shown_value(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{name!r} has half a surrogate pair, which is not text")
        return value

    def _number(self, name: str, value: Any) -> float:
        number = parsed_number(value) if isinstance(value, str) else _as_float(value)
        if number is None or not math.isfinite(number):
            kind = "a number" if number is None else "finite"
            self.fail(f"{name!r} must be {kind}, got {shown_value(value)}")
        return number


def _as_float(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def shown_value(value: Any) -> str:
    """Returns a value as JSON writes it, shortened."""
    try:
        return clipped(json.dumps(value))
    except TypeError:  # what a table of Arrow may hold: dates, bytes
        return clipped(repr(value))
