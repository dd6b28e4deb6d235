"""What losses are given: tensors that fit each other, lists of documents, ids, scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def matched(op: str, queries: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
    """Both of one dtype, two-dimensional and on the CPU."""
    for name, x in (("queries", queries), ("documents", documents)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{op}: {name} must be a torch tensor, got {type(x).__name__}")
        if x.dtype not in _DTYPES:
            raise TypeError(
                f"{op}: {name} must be float32, bfloat16, float16 or float64, got {x.dtype}"
            )
        if x.ndim != 2:
            raise ValueError(f"{op}: {name} must have 2 dimensions [rows, dim], got {x.ndim}")
        if x.device.type != "cpu":
            raise ValueError(f"{op}: {name} must be on the CPU, got {x.device}; it has no kernels")
        if len(x) == 0:
            raise ValueError(f"{op}: {name} must have at least 1 row, got 0")
    if queries.shape[1] != documents.shape[1]:
        raise ValueError(
            f"{op}: queries have dim {queries.shape[1]} but documents have dim {documents.shape[1]}"
        )
    if queries.dtype != documents.dtype:
        if not torch.is_autocast_enabled("cpu"):
            raise TypeError(
                f"{op}: queries are {queries.dtype} but documents are {documents.dtype}"
            )
        wider = torch.promote_types(queries.dtype, documents.dtype)
        queries, documents = queries.to(wider), documents.to(wider)
    return queries, documents


def lists(op: str, value: Any, name: str, n: int) -> tuple[Tensor, Tensor]:
    """Offsets and indices, from those or from one index for each of n queries."""
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], Tensor):
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


def row_ids(op: str, value: Any, name: str, rows: int) -> Tensor:
    """One id per row."""
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
    if tensor.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{op}: {name} must be int64, got {tensor.dtype}")
    if tensor.ndim != 1:
        raise ValueError(f"{op}: {name} must have 1 dimension, got {tensor.ndim}")
    return tensor.detach().to("cpu", torch.int64).contiguous()


def soft_targets(op: str, value: Any, listed: int) -> Tensor:
    """One float64 number for each of the listed positives; the op checks that they sum to one."""
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{op}: soft_targets must be a floating-point tensor, got {kind}")
    if value.shape != (listed,):
        raise ValueError(
            f"{op}: soft_targets must have shape ({listed},), one per listed positive, "
            f"got {tuple(value.shape)}"
        )
    return value.detach().to("cpu", torch.float64)


def scale(op: str, temperature: Any, log_scale: Any) -> Tensor:
    """What scores are multiplied by: a float64 number, checked by the op."""
    if temperature is not None and log_scale is not None:
        raise ValueError(f"{op}: pass temperature or log_scale, not both")
    name = "temperature" if log_scale is None else "log_scale"
    given = temperature if log_scale is None else log_scale
    value = torch.as_tensor(1.0 if given is None else given).to("cpu", torch.float64)
    if value.numel() != 1:
        raise ValueError(f"{op}: {name} must be one number, got shape {tuple(value.shape)}")
    value = value.reshape(())
    return 1 / value if log_scale is None else value.exp()
