"""Wraps a function in another one that takes its place."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, TypeVar

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])


def in_place_of(function: Wrapped, call: Callable[..., Any]) -> Wrapped:
    """Returns `call` under the name, signature and documentation of a function.

    It has the globals of the function, too, by which doctest knows whose module it is in, and may
    use none of its own.

    Args:
        function: the function that is wrapped.
        call: an inner function that calls it.
    """
    assert isinstance(call, types.FunctionType)
    same_module = types.FunctionType(
        call.__code__, function.__globals__, call.__name__, None, call.__closure__
    )
    return functools.update_wrapper(same_module, function)  # type: ignore[return-value]
