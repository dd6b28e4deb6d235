"""tilefold::statistics, examples, second_moment: activations folded into buffers, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _native
from .library import contiguous, library

library.define(  # type: ignore[no-untyped-call]
    "statistics(Tensor x, Tensor? mask, Tensor(a!) count, Tensor(b!) mean, Tensor(c!) m2, "
    "Tensor(d!) least, Tensor(e!) most, Tensor thresholds, Tensor(f!) above, "
    "Tensor(g!)? histogram) -> ()"
)
library.define(  # type: ignore[no-untyped-call]
    "examples(Tensor x, Tensor? mask, Tensor? numbers, Tensor(a!) seen, Tensor(b!) values, "
    "Tensor(c!) examples) -> ()"
)
library.define(  # type: ignore[no-untyped-call]
    "second_moment(Tensor x, Tensor? mask, Tensor(a!) sums) -> ()"
)


def _statistics(
    x: Tensor,
    mask: Tensor | None,
    count: Tensor,
    mean: Tensor,
    m2: Tensor,
    least: Tensor,
    most: Tensor,
    thresholds: Tensor,
    above: Tensor,
    histogram: Tensor | None,
) -> None:
    _native.statistics(
        _flat(x),
        _counted(x, mask),
        count.numpy(),
        mean.numpy(),
        m2.numpy(),
        least.numpy(),
        most.numpy(),
        thresholds.numpy(),
        above.numpy(),
        None if histogram is None else histogram.numpy(),
    )


def _examples(
    x: Tensor,
    mask: Tensor | None,
    numbers: Tensor | None,
    seen: Tensor,
    values: Tensor,
    examples: Tensor,
) -> None:
    n, per_example = len(x), x[0].numel() // max(1, x.shape[-1]) if len(x) else 0
    rows = _counted(x, mask)
    offsets = np.searchsorted(rows, np.arange(n + 1) * per_example)
    given = seen + torch.arange(n) if numbers is None else numbers
    _native.examples(_flat(x), rows, offsets, given.numpy(), values.numpy(), examples.numpy())
    seen += n


def _second_moment(x: Tensor, mask: Tensor | None, sums: Tensor) -> None:
    _native.second_moment(_flat(x), _counted(x, mask), sums.numpy())


def _flat(x: Tensor) -> NDArray[Any]:
    return contiguous(x.detach().reshape(-1, x.shape[-1]))


def _counted(x: Tensor, mask: Tensor | None) -> NDArray[np.int64]:
    """The rows that count, rising."""
    if mask is None:
        return np.arange(x.numel() // max(1, x.shape[-1]))
    return np.flatnonzero(mask.detach().reshape(-1).numpy())


def _nothing(*_: Any) -> None:
    return None


for _name, _op in (
    ("statistics", _statistics),
    ("examples", _examples),
    ("second_moment", _second_moment),
):
    library.impl(_name, _op, "CPU")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"tilefold::{_name}", _nothing, lib=library)
