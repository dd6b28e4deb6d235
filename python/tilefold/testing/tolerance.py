"""Compares results with the error of torch in the same precision, or up to rounding.

Search is exact and compared exactly; the search of another library may differ by rounding, whose
bound `assert_same_up_to_rounding` computes. Floating-point ops are compared with the error of torch
in the same precision, so that no test chooses a tolerance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference

Array = Any  # NumPy, a torch tensor, or a number

_FP32_ROUNDING = 2.0**-24


def assert_as_close_as_torch(
    ours: Array,
    torch_same_precision: Array,
    truth_fp64: Array,
    *,
    in_norm: bool = False,
    name: str = "result",
) -> None:
    """Requires error(ours) <= 2 * error(torch) + eps, the one tolerance policy for float ops.

    Elementwise, an error is the distance to the truth of the worst element: torch may hit a single
    element exactly by luck, so elements are not compared one by one. In norm, it is the length of
    the difference. eps is that of our dtype times the size of the truth (its largest element, or
    its norm). Where torch overflows, its error counts as none.

    Args:
        ours: the result to judge.
        torch_same_precision: the same computed by plain torch from the same inputs.
        truth_fp64: the same computed in float64.
        in_norm: compare norms, as for gradients; elementwise by default.
        name: the name of the result in messages.

    Raises:
        AssertionError: ours is further from the truth than that, has another shape, or is not
            finite where the truth is (or the other way round).
        TypeError: the truth is not float64, or ours is not floating-point.

    Example:
        >>> truth = np.array([1 / 3, 2 / 3])
        >>> assert_as_close_as_torch(np.float32(truth), np.float32(truth), truth)
    """
    mine, eps = _widened(ours, "ours")
    theirs, _ = _widened(torch_same_precision, "torch_same_precision")
    truth, truth_eps = _widened(truth_fp64, "truth_fp64")
    if truth_eps > np.finfo(np.float64).eps:
        raise TypeError("assert_as_close_as_torch: truth_fp64 must be float64")
    if not mine.shape == theirs.shape == truth.shape:
        raise AssertionError(
            f"{name}: shapes differ: ours {mine.shape}, torch {theirs.shape}, truth {truth.shape}"
        )
    finite = np.isfinite(truth)
    _require_same_nonfinite(mine, truth, finite, name)
    mine, theirs, truth = (np.where(finite, a, 0) for a in (mine, theirs, truth))
    away = np.abs(mine - truth)
    torch_away = np.where(np.isfinite(theirs), np.abs(theirs - truth), 0)
    measured = np.linalg.norm if in_norm else _largest
    error, torch_error, size = (float(measured(a.ravel())) for a in (away, torch_away, truth))
    allowed = 2 * torch_error + eps * size
    if error > allowed:
        worst = np.unravel_index(int(away.argmax()), away.shape)
        kind = "norm of the error" if in_norm else "worst error"
        raise AssertionError(
            f"{name}: {kind} {error:.3g} exceeds {allowed:.3g} = "
            f"2 * {torch_error:.3g} (torch) + {eps:.3g} (eps) * {size:.3g}; "
            f"worst at {tuple(map(int, worst))}: ours {mine[worst]:.9g}, "
            f"torch {theirs[worst]:.9g}, truth {truth[worst]:.17g}"
        )


def assert_same_up_to_rounding(
    ours: tuple[NDArray[np.float32], NDArray[np.int64]],
    their_ids: NDArray[Any],
    queries: NDArray[Any],
    documents: NDArray[Any],
    *,
    name: str = "peer",
) -> int:
    """Requires that another exact search differs from ours by nothing but rounding in fp32.

    An fp32 inner product in any order of summation is off by at most ``e = g |q| |x|`` with
    ``g = d u / (1 - d u)``, ``u = 2^-24`` (Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1). Perturbing every score by at most e moves the j-th largest by at most e, so the
    document that the peer has at rank j must score within 2 e of ours.

    Args:
        ours: ``(scores [n, k], ids [n, k])``; ids are row numbers of `documents`.
        their_ids: ``[n, k]`` row numbers, best first.
        queries: ``[n, dim]`` of at most 32 bits, as both searched them.
        documents: ``[m, dim]``.
        name: the name of the peer in messages.

    Returns:
        Number of places in which the ids differ: ties and near-ties.

    Raises:
        AssertionError: a difference that rounding cannot explain.

    Example:
        >>> documents, queries = np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32)
        >>> ours = reference.search(queries, documents, 2)
        >>> assert_same_up_to_rounding(ours, np.array([[1, 0]]), queries, documents)
        2
    """
    scores, ids = ours
    theirs = np.asarray(their_ids).astype(np.int64)
    if theirs.shape != ids.shape:
        raise AssertionError(f"{name}: ids have shape {theirs.shape}, expected {ids.shape}")
    differs = theirs != ids
    if not differs.any():
        return 0
    in_order = np.sort(theirs, axis=1)
    present = in_order[:, 1:] >= 0
    if ((in_order[:, 1:] == in_order[:, :-1]) & present).any():
        raise AssertionError(f"{name}: an id is repeated within one answer")
    if ((theirs < 0) != (ids < 0)).any() or theirs.max() >= len(documents):
        raise AssertionError(f"{name}: an id is missing, or is no row of the documents")
    unit = documents.shape[1] * _FP32_ROUNDING
    longest = max(_longest(documents[i : i + 65_536]) for i in range(0, len(documents), 65_536))
    for row in np.flatnonzero(differs.any(axis=1)):
        places = np.flatnonzero(differs[row])
        query = queries[row : row + 1]
        found = reference.canonical_scores(query, documents[theirs[row, places]])[0]
        away = np.abs(found.astype(np.float64) - scores[row, places])
        # The canonical scores of both sides were rounded once more, to fp32.
        allowed = 2 * longest * _longest(query) * (unit / (1 - unit) + _FP32_ROUNDING)
        if away.max() > allowed:
            place = places[away.argmax()]
            raise AssertionError(
                f"{name}: query {row} has document {theirs[row, place]} at rank {place}, which "
                f"scores {away.max():.3g} away from ours there; rounding explains {allowed:.3g}"
            )
    return int(differs.sum())


def _widened(array: Array, name: str) -> tuple[NDArray[np.float64], float]:
    """Converts values to float64; also returns the machine epsilon of their own dtype."""
    if hasattr(array, "detach"):
        import torch

        if not array.dtype.is_floating_point:
            raise TypeError(f"assert_as_close_as_torch: {name} must be floats, got {array.dtype}")
        return array.detach().cpu().double().numpy(), float(torch.finfo(array.dtype).eps)
    values = np.asarray(array)
    if values.dtype.kind != "f":
        raise TypeError(f"assert_as_close_as_torch: {name} must be floats, got {values.dtype}")
    return values.astype(np.float64), float(np.finfo(values.dtype).eps)


def _require_same_nonfinite(
    mine: NDArray[np.float64], truth: NDArray[np.float64], finite: NDArray[np.bool_], name: str
) -> None:
    same = np.where(finite, np.isfinite(mine), (mine == truth) | (np.isnan(mine) & np.isnan(truth)))
    if not same.all():
        worst = np.unravel_index(int(same.argmin()), same.shape)
        raise AssertionError(
            f"{name}: at {tuple(map(int, worst))} ours is {mine[worst]} but the truth is "
            f"{truth[worst]}"
        )


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.abs(values).max(initial=0))


def _longest(vectors: NDArray[Any]) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max()))
