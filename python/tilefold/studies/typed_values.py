"""Values converted to declared types: fields of settings, and results read back from JSON."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def to_type(value: Any, hint: Any, name: str, *, nulls: bool = False) -> Any:
    """Converts a value to a declared type, or raises an error that names it.

    Sequences become tuples, mappings become dataclasses, and integers are accepted as floats. No
    text is converted to a number, and no float to an integer.

    Args:
        value: any value, such as one read from JSON.
        hint: bool, int, float, str, Path, a Literal, a dataclass, a NamedTuple, an optional type,
            ``tuple[X, ...]`` or ``dict[str, X]`` of these.
        name: how errors name the value.
        nulls: whether None is accepted for a float, as NaN; JSON has no NaN.

    Raises:
        TypeError: the value has another type.
        ValueError: the value is none of a Literal, or a mapping has other fields.

    Example:
        >>> to_type([2, 3], tuple[int, ...], "candidates")
        (2, 3)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _to_optional(value, inner, name, nulls)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{name}: expected one of {', '.join(map(str, inner))}, got {value!r}")
        return value
    if origin is tuple:
        items = _sequence(value, name)
        return tuple(to_type(item, inner[0], name, nulls=nulls) for item in items)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise TypeError(f"{name}: expected a mapping, got {value!r}")
        return {
            key: to_type(item, inner[1], f"{name}.{key}", nulls=nulls)
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        return _to_record(value, hint, name, nulls)
    return _to_scalar(value, hint, name, nulls)


def to_json(value: Any) -> Any:
    """Converts a value to what the json module writes, with None for NaN and infinity.

    Dataclasses become mappings, NamedTuples and tuples become lists, paths become text.

    Example:
        >>> to_json({"p": float("nan"), "runs": (1, 2)})
        {'p': None, 'runs': [1, 2]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _to_optional(value: Any, choices: tuple[Any, ...], name: str, nulls: bool) -> Any:
    if value is None and type(None) in choices:
        return None
    kinds = [choice for choice in choices if choice is not type(None)]
    for kind in kinds[:-1]:
        try:
            return to_type(value, kind, name, nulls=nulls)
        except (TypeError, ValueError):
            continue
    return to_type(value, kinds[-1], name, nulls=nulls)


def _to_record(value: Any, kind: Any, name: str, nulls: bool) -> Any:
    if isinstance(value, kind):
        return value
    hints = get_type_hints(kind)
    names = list(getattr(kind, "_fields", ())) or [f.name for f in dataclasses.fields(kind)]
    if hasattr(kind, "_fields"):
        value = dict(zip(names, _sequence(value, name), strict=True))
    if not isinstance(value, Mapping) or set(value) != set(names):
        got = sorted(value) if isinstance(value, Mapping) else value
        raise ValueError(f"{name}: expected the fields {', '.join(sorted(names))}, got {got}")
    made = {key: to_type(value[key], hints[key], f"{name}.{key}", nulls=nulls) for key in names}
    return kind(**made)


def _to_scalar(value: Any, kind: Any, name: str, nulls: bool) -> Any:
    if kind is float:
        if value is None and nulls:
            return math.nan
        accepted = isinstance(value, Real) and not isinstance(value, bool)
    elif kind is int:
        accepted = isinstance(value, Integral) and not isinstance(value, bool)
    elif kind is Path:
        accepted = isinstance(value, str | Path)
    else:
        accepted = isinstance(value, kind)
    if not accepted:
        raise TypeError(f"{name}: expected {kind.__name__}, got {value!r}")
    return kind(value)


def _sequence(value: Any, name: str) -> Any:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name}: expected a sequence, got {value!r}")
    return value
