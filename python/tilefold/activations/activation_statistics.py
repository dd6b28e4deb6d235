"""Accumulates statistics of each column of activations, which can be saved and merged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _native
from ..devices import check_device
from ..files.tensors import map_tensors, write_tensors
from ..integers import as_integer
from ..torch_ops.dispatch import host_array

_OP = "ActivationStatistics"
# Files of version 1 have no version number, and other names for minimum and maximum.
_FORMAT, _VERSION = "format_version", 2


def _bin_values() -> Tensor:
    """Computes the middle of each bin of a histogram: 8 per octave for each sign, one at zero."""
    per_octave = _native.BINS_PER_OCTAVE
    place = torch.arange(_native.OCTAVES * per_octave + 1, dtype=torch.float64)
    octave = (place / per_octave).floor()
    edges = 2 ** (_native.LEAST_OCTAVE + octave) * (1 + place / per_octave - octave)
    middles = (edges[1:] + edges[:-1]) / 2
    return torch.cat([-middles.flip(0), torch.zeros(1, dtype=torch.float64), middles])


def _zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


_BIN_VALUES = _bin_values()
STATISTICS_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check_options(op: str, *, thresholds: Any, top: Any, **_: Any) -> None:
    """Raises the errors of `ActivationStatistics` for its options, in the name of a function."""
    as_integer(top, op, "top", at_least=0)
    _checked_thresholds(op, thresholds)


def _checked_thresholds(op: str, thresholds: Any) -> list[float]:
    try:
        if isinstance(thresholds, str):
            raise TypeError
        values = [float(threshold) for threshold in thresholds]
    except (TypeError, ValueError):
        raise TypeError(f"{op}: thresholds must be a list of numbers, got {thresholds!r}") from None
    if any(math.isnan(value) for value in values):
        raise ValueError(f"{op}: thresholds must be numbers, got {values}")
    return values


class ActivationStatistics:
    """Computes statistics of each column of activations, over the tokens that a mask keeps.

    Batches are accumulated in one pass on the CPU. Counts, minimum and maximum are exact; mean and
    variance of batches, shards and processes (`merge`) are combined in float64 (Chan, Golub &
    LeVeque, 1983). Results do not depend on the number of threads. A NaN makes the
    moments of its column NaN, and is ignored by the other statistics.

    Args:
        width: number of columns.
        thresholds: values; `fraction_above` is computed for each of them.
        top: number of examples with the largest values that are kept for each column.
        histogram: keep a histogram, for quantiles to 1/16 of their magnitude.
        second_moment: accumulate ``E[x xᵀ]``, ``[width, width]``.

    Raises:
        TypeError: thresholds that are no list of numbers, a `width` or `top` that is no integer.
        ValueError: a width below 1, a negative `top`, a threshold that is NaN.

    Example:
        >>> seen = ActivationStatistics(2, thresholds=[0.0], top=1)
        >>> x = torch.tensor([[[1.0, -1.0], [3.0, 5.0]], [[2.0, -1.0], [9.0, 9.0]]])
        >>> seen.update(x, mask=torch.tensor([[1, 1], [1, 0]]))
        >>> seen.count, seen.mean.tolist(), seen.variance.tolist()
        (3, [2.0, 1.0], [0.6666666666666666, 8.0])
        >>> seen.fraction_above.tolist()
        [[1.0, 0.3333333333333333]]
        >>> seen.top_examples
        tensor([[0],
                [0]])
    """

    def __init__(
        self,
        width: int,
        *,
        thresholds: Sequence[float] = (),
        top: int = 0,
        histogram: bool = False,
        second_moment: bool = False,
    ) -> None:
        width = as_integer(width, _OP, "width", at_least=1)
        top = as_integer(top, _OP, "top", at_least=0)
        limits = torch.tensor(_checked_thresholds(_OP, thresholds), dtype=torch.float32)
        self.width = width
        with torch.inference_mode(False):  # inference tensors could not be merged outside
            self._state: dict[str, Tensor] = {
                "count": _zeros(1),
                "mean": _zeros(width, dtype=torch.float64),
                "m2": _zeros(width, dtype=torch.float64),
                "min": torch.full((width,), torch.inf),
                "max": torch.full((width,), -torch.inf),
                "thresholds": limits,
                "above": _zeros(len(limits), width),
            }
            if histogram:
                self._state["histogram"] = _zeros(width, len(_BIN_VALUES))
            if top:
                self._state["seen"] = _zeros(1)
                self._state["top_values"] = torch.full((width, top), -torch.inf)
                self._state["top_examples"] = torch.full((width, top), -1, dtype=torch.int64)
            if second_moment:
                self._state["second_moment"] = _zeros(width, width, dtype=torch.float64)

    def update(
        self, x: Tensor, mask: Tensor | None = None, *, numbers: Tensor | None = None
    ) -> None:
        """Accumulates a batch.

        Args:
            x: ``[..., width]`` float32, bfloat16 or float16; examples along the first dimension.
                Statistics are kept on its device, which all batches share.
            mask: of the shape of `x` but for the last dimension, nonzero for rows that count; all
                rows by default.
            numbers: ``[len(x)]`` int64: numbers of the examples, for `top_examples`; by default
                examples are numbered from 0 in the order of batches.

        Raises:
            TypeError: not a tensor, or of another dtype.
            ValueError: another width or shape, or on another device than earlier batches or one
                that this build has no kernels for.
        """
        self._check(x, mask, numbers)
        self._follow(x)
        state = self._state
        names = ("count", "mean", "m2", "min", "max", "thresholds", "above")
        torch.ops.tilefold.statistics(
            x, mask, *(state[name] for name in names), self._get("histogram")
        )
        if "top_values" in state:
            buffers = (state[name] for name in ("seen", "top_values", "top_examples"))
            torch.ops.tilefold.examples(x, mask, numbers, *buffers)
        if "second_moment" in state:
            torch.ops.tilefold.second_moment(x, mask, state["second_moment"])

    def _follow(self, x: Tensor) -> None:
        """Moves empty statistics to the device of the first batch."""
        before = self._state["count"].device
        if x.device == before:
            return
        if self.count:
            raise ValueError(f"{_OP}: x is on {x.device}, and earlier batches were on {before}")
        self._state = {name: tensor.to(x.device) for name, tensor in self._state.items()}

    def merge(self, other: ActivationStatistics) -> None:
        """Merges the statistics of other texts into these.

        Args:
            other: statistics of the same width and options; they are not changed.

        Raises:
            ValueError: the other has another width, thresholds or options.
        """
        mine, theirs = self._state, other._state
        shapes = [{name: tuple(t.shape) for name, t in s.items()} for s in (mine, theirs)]
        if shapes[0] != shapes[1] or not torch.equal(mine["thresholds"], theirs["thresholds"]):
            raise ValueError(f"{_OP}: only statistics of one width and the same options merge")
        n, m = self.count, other.count
        if m == 0:
            return
        off = theirs["mean"] - mine["mean"]
        mine["mean"] += off * (m / (n + m))
        mine["m2"] += theirs["m2"] + off**2 * (n * m / (n + m))
        torch.minimum(mine["min"], theirs["min"], out=mine["min"])
        torch.maximum(mine["max"], theirs["max"], out=mine["max"])
        for name in ("count", "above", "histogram", "seen", "second_moment"):
            if name in mine:
                mine[name] += theirs[name]
        if "top_values" in mine:
            self._merge_top(theirs)

    def _merge_top(self, theirs: dict[str, Tensor]) -> None:
        mine, k = self._state, self._state["top_values"].shape[1]
        values, numbers = (
            torch.cat([mine[name], theirs[name]], dim=1) for name in ("top_values", "top_examples")
        )
        # Sorts by value, then by number; empty places have number -1 and come last.
        order = torch.where(numbers < 0, torch.iinfo(torch.int64).max, numbers).argsort(dim=1)
        falling = values.gather(1, order).argsort(stable=True, dim=1, descending=True)
        order = order.gather(1, falling)
        mine["top_values"].copy_(values.gather(1, order[:, :k]))
        mine["top_examples"].copy_(numbers.gather(1, order[:, :k]))

    @property
    def count(self) -> int:
        """Number of rows counted."""
        return int(self._state["count"])

    @property
    def mean(self) -> Tensor:
        """Mean of each column, ``[width]`` float64; NaN without rows."""
        mean = self._state["mean"]
        return torch.full_like(mean, math.nan) if not self.count else mean

    @property
    def variance(self) -> Tensor:
        """Population variance of each column, ``[width]`` float64; NaN without rows."""
        return self._state["m2"].clamp(min=0) / self._n

    @property
    def std(self) -> Tensor:
        """Population standard deviation of each column, ``[width]`` float64; NaN without rows."""
        return self.variance.sqrt()

    @property
    def min(self) -> Tensor:
        """Minimum of each column, ``[width]`` float32; inf without rows."""
        return self._state["min"]

    @property
    def max(self) -> Tensor:
        """Maximum of each column, ``[width]`` float32; -inf without rows."""
        return self._state["max"]

    @property
    def absmax(self) -> Tensor:
        """Largest magnitude of each column, ``[width]`` float32; -inf without rows."""
        return torch.maximum(-self.min, self.max)

    @property
    def fraction_above(self) -> Tensor:
        """Share of values above each threshold, ``[thresholds, width]`` float64."""
        return self._state["above"].double() / self._n

    @property
    def top_values(self) -> Tensor:
        """Largest value of each of `top_examples`, ``[width, top]`` float32, descending.

        Places beyond the number of examples are -inf.
        """
        return self._requested("top_values", "top")

    @property
    def top_examples(self) -> Tensor:
        """Numbers of the examples with the largest values, ``[width, top]`` int64.

        Places beyond the number of examples are -1.
        """
        return self._requested("top_examples", "top")

    @property
    def second_moment(self) -> Tensor:
        """Second moment ``E[x xᵀ]``, ``[width, width]`` float64, not centred."""
        lower = self._requested("second_moment", "second_moment") / self._n
        return lower.tril() + lower.tril(-1).T

    def quantile(self, q: float) -> Tensor:
        """Estimates the q-quantile of each column from its histogram, to 1/16 of its magnitude.

        Magnitudes below 2^-16 count as zero, and those above 2^16 as about 2^16.

        Args:
            q: the share of values below the quantile, 0 to 1.

        Returns:
            ``[width]`` float64; NaN without rows.

        Raises:
            ValueError: q outside of 0 to 1, or statistics without `histogram`.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"{_OP}: q must be 0 to 1, got {q}")
        counts = self._requested("histogram", "histogram").cumsum(1)
        wanted = (q * counts[:, -1:]).ceil().clamp(min=1)
        bins = (counts < wanted).sum(1).clamp(max=counts.shape[1] - 1)
        values = _BIN_VALUES[bins]
        if not self.count:
            return torch.full_like(values, math.nan)
        return torch.minimum(torch.maximum(values, self.min.double()), self.max.double())

    def save(self, path: str | Path) -> None:
        """Writes the statistics to a safetensors file that `load` reads."""
        tensors = {name: host_array(t) for name, t in self._state.items()}
        write_tensors(Path(path), tensors | {_FORMAT: np.array(_VERSION)})

    @classmethod
    def load(cls, path: str | Path) -> ActivationStatistics:
        """Reads the statistics that `save` wrote.

        Raises:
            CorruptedFolderError: not a safetensors file.
            ValueError: a file without this format's version, or with another one.
        """
        tensors = map_tensors(Path(path))
        version = tensors.pop(_FORMAT, None)
        if version is None or int(version) != _VERSION:
            found_version = "none" if version is None else int(version)
            raise ValueError(
                f"{_OP}.load: {path} must have format version {_VERSION}, got {found_version}; "
                "fold the activations again with this version of tilefold"
            )
        state = {name: torch.from_numpy(a.copy()) for name, a in tensors.items()}
        found = cls(len(state["mean"]))
        found._state = state
        return found

    @property
    def _n(self) -> float:
        return self.count or math.nan

    def _get(self, name: str) -> Tensor | None:
        return self._state.get(name)

    def _requested(self, name: str, option: str) -> Tensor:
        if name not in self._state:
            raise ValueError(f"{_OP}: {option} was not requested")
        return self._state[name]

    def _check(self, x: Any, mask: Any, numbers: Any) -> None:
        if not isinstance(x, Tensor) or x.dtype not in STATISTICS_DTYPES:
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{_OP}: x must be float32, bfloat16 or float16, got {kind}")
        check_device(_OP, "x", x.device, "statistics")
        if x.ndim < 2 or x.shape[-1] != self.width:
            raise ValueError(f"{_OP}: x must have shape [..., {self.width}], got {tuple(x.shape)}")
        for name, value, shape in (("mask", mask, x.shape[:-1]), ("numbers", numbers, x.shape[:1])):
            if value is not None and tuple(value.shape) != tuple(shape):
                raise ValueError(
                    f"{_OP}: {name} must have shape {tuple(shape)}, got {tuple(value.shape)}"
                )
