"""Checks and converts the arguments of losses: embeddings, lists of documents, ids, scales."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arrays import check_dim
from ..devices import check_device
from ..ragged_lists import Lists, checked
from ..torch_ops import result_dtype
from ..torch_ops.dispatch import host_array

_CHECKED_ROWS = 1024
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# The torch op behind each public function. invariance_loss passes the arguments of risks on to
# contrastive_loss, which checks them under its own name.
_OPS = {
    "contrastive_loss": "contrastive",
    "alignment_loss": "divergence",
    "invariance_loss": "divergence",
    # Plain torch, as alignment_loss over lists.
    "invariant_candidates": "divergence",
    "marginal_likelihood_loss": "divergence",
}


class Batch(NamedTuple):
    """Arguments of the contrastive loss; types and lengths are checked, values of lists are not."""

    queries: Tensor  # [n, dim]
    documents: Tensor  # [m, dim]
    scale: Tensor  # float64
    positives: tuple[Tensor, Tensor]  # offsets [n + 1], indices
    soft_targets: Tensor | None
    exclude: tuple[Tensor, Tensor] | None
    exclude_ids: tuple[Tensor, Tensor] | None
    query_ids: Tensor | None  # [n]
    document_ids: Tensor | None  # [m]
    gates: tuple[Tensor, Tensor] | None = None  # [n, e], [m, e]

    def lists(self) -> tuple[Tensor | None, ...]:
        """Returns lists, ids and gates in the order in which the op takes them."""
        none = (None, None)
        exclude, exclude_ids = self.exclude or none, self.exclude_ids or none
        ids = (*exclude_ids, self.query_ids, self.document_ids)
        return (*self.positives, self.soft_targets, *exclude, *ids, *(self.gates or none))


def floating(op: str, name: str, x: Any) -> None:
    """Checks that x is a tensor of a dtype and on a device that losses are implemented for."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{op}: {name} must be a torch tensor, got {type(x).__name__}; torch.as_tensor "
            "converts arrays"
        )
    if x.dtype not in _DTYPES:
        raise TypeError(
            f"{op}: {name} must be float32, bfloat16, float16 or float64, got {x.dtype}"
        )
    check_device(op, name, x.device, _OPS[op])


def matched(
    op: str,
    queries: Tensor,
    documents: Tensor,
    names: tuple[str, str] = ("queries", "documents"),
    *,
    min_rows: int = 1,
) -> tuple[Tensor, Tensor]:
    """Checks that both are two-dimensional with one dim, and returns them in one dtype.

    Under autocast both are cast to the wider dtype of the two.
    """
    for name, x in zip(names, (queries, documents), strict=True):
        floating(op, name, x)
        if x.ndim != 2:
            raise ValueError(f"{op}: {name} must have 2 dimensions [rows, dim], got {x.ndim}")
        if len(x) < min_rows:
            raise ValueError(f"{op}: {name} must have at least {min_rows} row, got {len(x)}")
    check_dim(op, names[0], queries.shape[1], f"{names[1]} have", documents.shape[1])
    if queries.dtype != documents.dtype:
        if not torch.is_autocast_enabled(queries.device.type):
            raise TypeError(
                f"{op}: {names[0]} are {queries.dtype} but {names[1]} are {documents.dtype}"
            )
        wider = torch.promote_types(queries.dtype, documents.dtype)
        queries, documents = queries.to(wider), documents.to(wider)
    return queries, documents


def n_lists(value: Any) -> int:
    """Returns for how many queries lists are, in any form that `lists` takes."""
    return len(value[0]) - 1 if _is_csr(value) else len(value)


def lists(op: str, value: Any, name: str, n: int) -> tuple[Tensor, Tensor]:
    """Returns offsets and indices of the lists of n queries.

    Args:
        op: the public function, for messages.
        value: a pair of both, a list of lists, or one index for each query.
        name: the argument, for messages.
        n: number of queries.

    Raises:
        TypeError: indices that are no integers.
        ValueError: lists of another number of queries.
    """
    if not _is_csr(value) and _is_nested(value):
        value = _packed(op, value, name)
    if _is_csr(value):
        offsets, indices = (_integers(op, part, name) for part in value)
        if len(offsets) != n + 1:
            raise ValueError(
                f"{op}: offsets of {name} must have {n + 1} elements, one more than queries, "
                f"got {len(offsets)}"
            )
        return offsets, indices
    indices = _integers(op, value, name)
    if len(indices) != n:
        raise ValueError(
            f"{op}: {name} must have {n} elements, one per query, got {len(indices)}; pass "
            "(offsets, indices) for lists"
        )
    return torch.arange(n + 1, device="cpu"), indices


# Tuples of types, here and in the other losses: torch.compile of torch 2.6 cannot read `A | B`.
def _is_csr(value: Any) -> bool:
    """Returns whether a value is a pair of offsets and indices."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and isinstance(value[0], (Tensor, np.ndarray))


def _is_nested(value: Any) -> bool:
    """Returns whether a value is a list of lists."""
    return isinstance(value, (tuple, list)) and any(
        isinstance(part, (tuple, list)) for part in value
    )


def _packed(op: str, value: Any, name: str) -> tuple[Tensor, Tensor]:
    """Converts a list of lists to offsets and indices."""
    try:
        offsets, indices = Lists.pack([[operator.index(i) for i in part] for part in value])
    except (TypeError, OverflowError) as error:
        raise TypeError(f"{op}: {name} must be lists of integers, one list per query") from error
    return torch.from_numpy(offsets), torch.from_numpy(indices)


def candidates(op: str, value: Any, n: int | None) -> tuple[Tensor, Tensor]:
    """Returns offsets and indices, from a pair of them or from ``[n, k]`` indices."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor) and value.ndim == 2:
        rows, k = value.shape
        if rows == 0:
            raise ValueError(f"{op}: candidates must have at least 1 row, got 0")
        if n is not None and rows != n:
            raise ValueError(f"{op}: candidates must have {n} rows, one per query, got {rows}")
        return torch.arange(rows + 1) * k, _integers(op, value.reshape(-1), "candidates")
    if not (_is_csr(value) or _is_nested(value)):
        raise TypeError(f"{op}: candidates must be [n, k] indices or (offsets, indices)")
    rows = n_lists(value) if n is None else n
    if rows < 1:
        raise ValueError(
            f"{op}: offsets of candidates must have 2 elements or more, got {rows + 1}"
        )
    return lists(op, value, "candidates", rows)


def check_lists(op: str, offsets: Tensor, indices: Tensor, name: str, m: int) -> None:
    """Raises unless lists are valid: rising offsets, distinct indices of m documents."""
    checked(Lists(host_array(offsets), host_array(indices)), op, name, m)


def finite_scores(op: str, scores: Tensor) -> Tensor:
    """Returns scores of finite embeddings; raises where they overflow."""
    if not torch.isfinite(scores.detach()).all():
        raise ValueError(f"{op}: scores are beyond {scores.dtype}; scale embeddings down")
    return scores


def check_finite(op: str, names: tuple[str, ...], rows: tuple[Tensor, ...]) -> None:
    """Raises where a row has a NaN or an infinity."""
    for name, x in zip(names, rows, strict=True):
        # By parts: isfinite forms the absolute values, a copy of what it gets.
        for part, some in enumerate(torch.split(x.detach(), _CHECKED_ROWS)):
            wrong = ~torch.isfinite(some).all(1)
            if wrong.any():
                row = part * _CHECKED_ROWS + int(wrong.int().argmax())
                raise ValueError(f"{op}: {name} have a NaN or an infinity in row {row}")


def row_ids(op: str, value: Any, name: str, rows: int) -> Tensor:
    """Returns ids as int64 on the CPU, one per row."""
    ids = _integers(op, value, name)
    if len(ids) != rows:
        raise ValueError(f"{op}: {name} must have {rows} elements, got {len(ids)}")
    return ids


def _integers(op: str, value: Any, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        raise TypeError(f"{op}: {name} must be integers, got {kind}") from error
    if not isinstance(value, Tensor) and tensor.numel() == 0:
        tensor = tensor.long()  # torch makes an empty list float32
    if tensor.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{op}: {name} must be int64, got {tensor.dtype}")
    if tensor.ndim != 1:
        raise ValueError(f"{op}: {name} must have 1 dimension, got {tensor.ndim}")
    return tensor.detach().to("cpu", torch.int64).contiguous()


def gates(op: str, value: Any, queries: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the embeddings that gate scores, detached, in the precision of scores."""
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise TypeError(f"{op}: gates must be a pair (queries, documents)")
    q, d = matched(op, value[0], value[1], ("queries of gates", "documents of gates"))
    if (len(q), len(d)) != (len(queries), len(documents)):
        raise ValueError(
            f"{op}: gates must be of {len(queries)} queries and {len(documents)} documents, got "
            f"{len(q)} and {len(d)}"
        )
    if torch.float64 in (q.dtype, queries.dtype):
        q, d = q.to(result_dtype(queries)), d.to(result_dtype(queries))
    return q.detach(), d.detach()


def soft_targets(op: str, value: Any, listed: int) -> Tensor:
    """Returns float64 targets, one per listed positive; the op checks that they sum to one."""
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{op}: soft_targets must be a floating-point tensor, got {kind}")
    if value.shape != (listed,):
        raise ValueError(
            f"{op}: soft_targets must have shape ({listed},), one per listed positive, "
            f"got {tuple(value.shape)}"
        )
    return value.detach().to("cpu", torch.float64)


def scale(op: str, temperature: Any, log_scale: Any, name: str = "temperature") -> Tensor:
    """Returns the factor of scores as a float64 tensor; the op checks that it is positive."""
    if temperature is not None and log_scale is not None:
        raise ValueError(f"{op}: pass temperature or log_scale, not both")
    name = name if log_scale is None else "log_scale"
    argument = temperature if log_scale is None else log_scale
    if isinstance(argument, (float, int)):
        _check_number(op, name, argument)
    try:
        # Straight to float64: torch would make a number of Python float32 first.
        number = 1.0 if argument is None else argument
        value = torch.as_tensor(number, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = type(argument).__name__
        raise TypeError(f"{op}: {name} must be a number or a tensor, got {kind}") from error
    if value.numel() != 1:
        raise ValueError(f"{op}: {name} must be one number, got shape {tuple(value.shape)}")
    value = value.reshape(())
    return 1 / value if log_scale is None else value.exp()


def _check_number(op: str, name: str, value: float) -> None:
    if name != "log_scale" and not 0 < value < math.inf:
        raise ValueError(f"{op}: {name} must be positive and finite, got {value}")
    if not -math.inf < value < math.inf:
        raise ValueError(f"{op}: {name} must be finite, got {value}")


def checked_scale(op: str, value: Tensor) -> Tensor:
    """Returns a scale after checking it, for code that multiplies outside of the ops."""
    if not (value > 0 and torch.isfinite(value)):
        raise ValueError(
            f"{op}: temperature must be positive and log_scale finite, but scores would be "
            f"multiplied by {float(value)}"
        )
    return value
