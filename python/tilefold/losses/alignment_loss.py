"""Computes the alignment loss: the divergence of a student's distribution from a teacher's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..losses import listed, loss_inputs, sums
from .finished_calls import finishes_before_exit
from .view_divergence import Mixture, divergence

_OP = "alignment_loss"
DIVERGENCES = ("forward_kl", "reverse_kl", "js")
_STUDENT, _TEACHER, _MEAN = 0, 1, -1  # views, and their mixture
Pair = tuple[Tensor, Tensor]
Side = Tensor | Pair


@finishes_before_exit
def alignment_loss(
    student: Side,
    teacher: Side,
    *,
    candidates: Tensor | tuple[Tensor, Tensor] | None = None,
    exclude: tuple[Tensor, Tensor] | None = None,
    temperature: float | Tensor | None = None,
    log_scale: Tensor | float | None = None,
    teacher_temperature: float | Tensor | None = None,
    divergence: str = "forward_kl",
    train_teacher: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Computes the divergence of a student's softmax over candidate documents from a teacher's.

    Either side consists of embeddings, a pair ``(queries [n, dim], documents [m, dim])`` whose
    inner products are the scores, or by scores themselves, such as a language model's likelihoods.
    Dimensions of the two sides may differ.

    - Without `candidates` all documents of the batch are candidates of every query. Both sides must
      be embeddings, and neither of the matrices ``[n, m]`` is ever formed: memory is that of
      gradients and of a block of queries (40 MiB).
    - With `candidates`, each query has only its listed candidates, and scores follow the order of
      the list. (torch.compile breaks its graph there.)
    - Scores ``[n, k]`` on both sides need no `candidates`.

    With S the student's and T the teacher's distribution, the loss of a query is

    - "forward_kl": ``KL(T || S)``, the usual distillation (Hinton et al., arXiv:1503.02531), which
      makes S cover all documents that are likely under T;
    - "reverse_kl": ``KL(S || T)``, which lets S concentrate on some of them;
    - "js": ``(KL(S || M) + KL(T || M)) / 2`` with ``M = (S + T) / 2``, at most log 2.

    The loss is not multiplied by the square of a temperature.

    Args:
        student: ``(queries, documents)`` or scores ``[n, k]``, or ``[listed]`` with ragged lists;
            float32, bfloat16, float16 or float64.
        teacher: the same for the teacher.
        candidates: ``[n, k]`` int64 indices of documents, or ``(offsets [n + 1], indices)`` for
            lists of any length.
        exclude: ``(offsets [n + 1], indices)``: documents that are no candidates of a query. Not
            with `candidates`.
        temperature: the student's scores are divided by it; a number or a tensor, which then gets a
            gradient.
        log_scale: the student's scores are multiplied by its exponential instead.
        teacher_temperature: the teacher's scores are divided by it.
        divergence: "forward_kl", "reverse_kl" or "js".
        train_teacher: let gradients flow to the teacher, too; else it is held constant.
        reduction: "mean" or "sum" over queries, or "none" for ``[n]``.

    Returns:
        The loss: a number, or ``[n]``; float32, or float64 for float64 inputs. A query without a
        candidate has loss 0.

    Raises:
        ValueError: shapes that do not fit each other, an index out of range, a temperature that is
            not positive, a NaN or an infinity in a row.
        TypeError: dtypes that cannot be used.

    Example:
        >>> student = torch.tensor([[1.0, 0.0, -1.0]])
        >>> alignment_loss(student, student * 2, temperature=0.5)
        tensor(0.)
        >>> alignment_loss((torch.eye(3), torch.eye(3)), (torch.eye(3), torch.zeros(3, 3)))
        tensor(0.1195)
    """
    if divergence not in DIVERGENCES:
        raise ValueError(f"{_OP}: divergence must be one of {DIVERGENCES}, got {divergence!r}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{_OP}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if candidates is not None and exclude is not None:
        raise ValueError(f"{_OP}: pass candidates or exclude, not both")
    scale = loss_inputs.scale(_OP, temperature, log_scale)
    teacher_scale = loss_inputs.scale(_OP, teacher_temperature, None, name="teacher_temperature")
    if not train_teacher:
        teacher_scale = teacher_scale.detach()
    sides = [_side("student", student), _side("teacher", teacher, constant=not train_teacher)]
    if candidates is None and not any(isinstance(side, Tensor) for side in sides):
        scales = torch.stack([scale, teacher_scale])
        return _over_batch(sides, scales, exclude, divergence, train_teacher, reduction)
    if exclude is not None:
        raise ValueError(f"{_OP}: exclude needs embeddings on both sides, got scores")
    offsets, scores = _listed(sides, candidates)
    s, t = (
        sums.scaled(x.double(), loss_inputs.checked_scale(_OP, factor))
        for x, factor in zip(scores, (scale, teacher_scale), strict=True)
    )
    losses = listed.alignment(s, t, offsets, divergence)
    if reduction != "none":
        losses = sums.total(losses) / (len(losses) if reduction == "mean" else 1)
    return losses.to(scores[0].dtype)


def _side(name: str, value: Any, *, constant: bool = False) -> Side:
    """Checks the embeddings or scores of a side, and detaches them where they are constant."""
    if isinstance(value, Tensor):
        loss_inputs.floating(_OP, f"{name} scores", value)
        return value.detach() if constant else value
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise TypeError(
            f"{_OP}: {name} must be scores or a pair (queries, documents), got "
            f"{type(value).__name__}"
        )
    queries, documents = loss_inputs.matched(_OP, value[0], value[1], _names(name))
    return (queries.detach(), documents.detach()) if constant else (queries, documents)


def _names(side: str) -> tuple[str, str]:
    return (f"queries of the {side}", f"documents of the {side}")


def _over_batch(
    sides: list[Any],
    scales: Tensor,
    exclude: Any,
    kind: str,
    train_teacher: bool,
    reduction: str,
) -> Tensor:
    (q, d), (tq, td) = sides
    if (len(q), len(d)) != (len(tq), len(td)):
        raise ValueError(
            f"{_OP}: student and teacher must have the same numbers of queries and documents, got "
            f"{len(q)} and {len(d)} against {len(tq)} and {len(td)}"
        )
    if torch.float64 in (q.dtype, tq.dtype):
        q, d, tq, td = (x.double() for x in (q, d, tq, td))
    excluded = None if exclude is None else loss_inputs.lists(_OP, exclude, "exclude", len(q))

    def loss(mixture: Mixture, queries: Pair, documents: Pair) -> Tensor:
        found = divergence(
            _OP,
            queries,
            documents,
            scales,
            mixture,
            (" of the student", " of the teacher"),
            exclude=excluded,
            reduction=reduction,
        )
        return found.loss

    if kind == "js":
        return loss(Mixture(_MEAN, False, (0.5, 0.5)), (q, tq), (d, td))
    forward = kind == "forward_kl"
    constant = tq.detach(), td.detach()
    value = loss(Mixture(_TEACHER, forward, (1.0, 0.0)), (q, constant[0]), (d, constant[1]))
    if not train_teacher:
        return value
    # The teacher's gradient is that of the same divergence with the roles exchanged; subtracting
    # the detached value adds this gradient without changing the loss.
    other = loss(Mixture(_STUDENT, not forward, (0.0, 1.0)), (q.detach(), tq), (d.detach(), td))
    return value + (other - other.detach())


def _listed(sides: list[Any], candidates: Any) -> tuple[Tensor, list[Tensor]]:
    """Returns offsets of lists, and the scores ``[listed]`` of both sides in one dtype."""
    rows = [side for side in sides if not isinstance(side, Tensor)]
    if candidates is None:
        scored = [side for side in sides if isinstance(side, Tensor)]
        if rows or any(s.ndim != 2 for s in scored):
            raise ValueError(f"{_OP}: scores need candidates, unless both sides have scores [n, k]")
        n, k = scored[0].shape
        if n == 0:
            raise ValueError(f"{_OP}: student scores must have at least 1 row, got 0")
        offsets, indices = torch.arange(n + 1) * k, None
    else:
        queries = len(rows[0][0]) if rows else None
        offsets, indices = loss_inputs.candidates(_OP, candidates, queries)
        if not rows:
            beyond = int(indices.max()) + 1 if len(indices) else 0
            loss_inputs.check_lists(_OP, offsets, indices, "candidates", beyond)
    scores = []
    for name, side in zip(("student", "teacher"), sides, strict=True):
        if isinstance(side, Tensor):
            scores.append(_flat_scores(name, side, offsets))
        else:
            q, d = side
            assert indices is not None
            if len(q) != len(offsets) - 1:
                raise ValueError(
                    f"{_OP}: candidates are for {len(offsets) - 1} queries, but the {name} has "
                    f"{len(q)}"
                )
            loss_inputs.check_lists(_OP, offsets, indices, "candidates", len(d))
            loss_inputs.check_finite(_OP, _names(name), (q, d))
            scores.append(loss_inputs.finite_scores(_OP, listed.scores(q, d, offsets, indices)))
    wider = torch.promote_types(scores[0].dtype, scores[1].dtype)
    return offsets, [s.to(wider) for s in scores]


def _flat_scores(name: str, scores: Tensor, offsets: Tensor) -> Tensor:
    n, total = len(offsets) - 1, int(offsets[-1])
    fits = scores.ndim == 1 and len(scores) == total
    if scores.ndim == 2 and len(scores) == n:
        fits = bool((offsets == torch.arange(n + 1) * scores.shape[1]).all())
    if not fits:
        raise ValueError(
            f"{_OP}: {name} scores must be one per candidate, {total} of {n} queries, got shape "
            f"{tuple(scores.shape)}"
        )
    flat = scores.reshape(-1)
    wrong = ~torch.isfinite(flat)
    if wrong.any():
        place = int(wrong.int().argmax())
        query = int(torch.searchsorted(offsets, place, right=True)) - 1
        raise ValueError(
            f"{_OP}: {name} scores must be finite, got {float(flat[place])} for query {query}"
        )
    return flat.to(torch.float64 if flat.dtype == torch.float64 else torch.float32)
