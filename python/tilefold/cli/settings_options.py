"""Options of a verb made from a class of settings, and settings made from the options."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..studies.settings import StudySettings, field_descriptions
from ..studies.typed_values import to_json

Settings = TypeVar("Settings", bound=StudySettings)
_METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH"}


def add_settings_options(parser: argparse.ArgumentParser, kind: type[StudySettings]) -> None:
    """Adds an option for each field, with the field's type, default and description.

    ``max_samples: int = 5000`` becomes ``--max-samples N``; a tuple takes any number of values; a
    Literal its values alone. A field without default is required. Fields of each class are a group.

    Args:
        parser: of a verb.
        kind: class of settings.
    """
    hints, descriptions = get_type_hints(kind), field_descriptions(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for parent in kind.__mro__:
        own = [fields[name] for name in inspect.get_annotations(parent) if name in fields]
        if own:
            group = parser.add_argument_group(_words(parent.__name__))
            for field in own:
                text = _choices(hints[field.name]) + descriptions.get(field.name, "")
                group.add_argument(
                    f"--{field.name.replace('_', '-')}",
                    required=field.default is dataclasses.MISSING,
                    default=argparse.SUPPRESS,  # the settings know it
                    help=_with_default(text, field.default).replace("%", "%%"),
                    **_kind_options(hints[field.name]),
                )


def settings_from_options(args: argparse.Namespace, kind: type[Settings]) -> Settings:
    """Returns the settings of the options that were given.

    Raises:
        ValueError: values that the settings refuse, named as options.
    """
    given = vars(args)
    names = [field.name for field in dataclasses.fields(kind) if field.name in given]
    try:
        return kind(**{name: given[name] for name in names})
    except (TypeError, ValueError) as error:
        raise ValueError(_in_options(str(error), kind)) from error


def _in_options(message: str, kind: type[StudySettings]) -> str:
    """Rewrites "ProbeSettings: n_facts: expected ..." as "--n-facts: expected ..."."""
    text = message.removeprefix(f"{kind.__name__}: ")
    name, colon, rest = text.partition(": ")
    if colon and name in {field.name for field in dataclasses.fields(kind)}:
        return f"--{name.replace('_', '-')}: {rest}"
    return text


def options_of_settings(settings: StudySettings) -> dict[str, Any]:
    """Returns settings as options for a ``--config`` file; those that are None are left out."""
    return {name: value for name, value in to_json(settings).items() if value is not None}


def _kind_options(hint: Any) -> dict[str, Any]:
    """Returns the arguments of `add_argument` that follow from a type."""
    inner = [choice for choice in get_args(hint) if choice is not type(None)]
    if get_origin(hint) is tuple:
        return {**_kind_options(inner[0]), "nargs": "*", "action": "extend"}
    if get_origin(hint) is Literal:
        return {"choices": inner, "metavar": "NAME"}
    if inner:  # an optional type
        return _kind_options(inner[0])
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": hint, "metavar": _METAVARS[hint]}


def _choices(hint: Any) -> str:
    """Returns the values of a Literal, to begin a description with; those of a tuple are long."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is Literal and get_origin(hint) is not tuple:
            *others, last = get_args(kind)
            return f"{', '.join(others)} or {last}: "
    return ""


def _with_default(text: str, default: Any) -> str:
    if default in (None, (), dataclasses.MISSING):
        return text
    values = default if isinstance(default, tuple) else (default,)
    separator = ", " if any(" " in str(value) for value in values) else " "
    return f"{text} (default: {separator.join(map(str, values))})"


def _words(name: str) -> str:
    """Returns the words of a class's name: "SubjectSettings" to "subject settings"."""
    return " ".join(re.findall(r"[A-Z][a-z]+", name)).lower()
