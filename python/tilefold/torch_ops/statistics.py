"""Registers tilefold::statistics, examples and second_moment, which update buffers in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _native
from .dispatch import (
    beside,
    devices,
    host_array,
    native_array,
    native_rows,
    queue_of,
    register,
)

_SCHEMAS = {
    "statistics": "(Tensor x, Tensor? mask, Tensor(a!) count, Tensor(b!) mean, Tensor(c!) m2, "
    "Tensor(d!) min, Tensor(e!) max, Tensor thresholds, Tensor(f!) above, "
    "Tensor(g!)? histogram) -> ()",
    "examples": "(Tensor x, Tensor? mask, Tensor? numbers, Tensor(a!) seen, Tensor(b!) values, "
    "Tensor(c!) examples) -> ()",
    "second_moment": "(Tensor x, Tensor? mask, Tensor(a!) sums) -> ()",
}


def _statistics(
    x: Tensor,
    mask: Tensor | None,
    count: Tensor,
    mean: Tensor,
    m2: Tensor,
    min: Tensor,
    max: Tensor,
    thresholds: Tensor,
    above: Tensor,
    histogram: Tensor | None,
) -> None:
    _native.statistics(
        _flat(x),
        beside(x, _kept_rows(x, mask)),
        native_array(count),
        native_array(mean),
        native_array(m2),
        native_array(min),
        native_array(max),
        native_array(thresholds),
        native_array(above),
        None if histogram is None else native_array(histogram),
        **queue_of(x),
    )


def _examples(
    x: Tensor,
    mask: Tensor | None,
    numbers: Tensor | None,
    seen: Tensor,
    values: Tensor,
    examples: Tensor,
) -> None:
    n, per_example = len(x), x[0].numel() // _width(x) if len(x) else 0
    rows = _kept_rows(x, mask)
    offsets = np.searchsorted(rows, np.arange(n + 1) * per_example)
    names = torch.arange(n, device=seen.device) + seen if numbers is None else numbers
    _native.examples(
        _flat(x),
        beside(x, rows),
        beside(x, offsets),
        native_array(names.to(x.device)),
        native_array(values),
        native_array(examples),
        **queue_of(x),
    )
    seen += n


def _second_moment(x: Tensor, mask: Tensor | None, sums: Tensor) -> None:
    rows = beside(x, _kept_rows(x, mask))
    _native.second_moment(_flat(x), rows, native_array(sums), **queue_of(x))


def _width(x: Tensor) -> int:
    """Returns the number of columns, but at least 1, since it is a divisor."""
    return x.shape[-1] or 1


def _flat(x: Tensor) -> Any:
    return native_rows(x.detach().reshape(-1, x.shape[-1]))


def _kept_rows(x: Tensor, mask: Tensor | None) -> NDArray[np.int64]:
    """Returns the indices of the rows that the mask keeps, ascending."""
    if mask is None:
        return np.arange(x.numel() // _width(x))
    return np.flatnonzero(host_array(mask.reshape(-1)))


def _fake(*_: Any) -> None:
    """Does nothing: every op here writes into its arguments and returns nothing."""


for _op, _implementation in (
    ("statistics", _statistics),
    ("examples", _examples),
    ("second_moment", _second_moment),
):
    register(_op, _SCHEMAS[_op], fake=_fake, implementations=devices(_implementation))
