"""Computes the invariance loss: how much rankings depend on the wording of a query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..losses import listed, loss_inputs, sums
from ..torch_ops import result_dtype
from .contrastive_loss import contrastive_loss
from .finished_calls import finishes_before_exit
from .view_divergence import Mixture, divergence

_OP = "invariance_loss"
FORMS = ("consistency", "risk", "variance")


class Invariance(NamedTuple):
    """An invariance loss of S views of n queries, and its components (without gradients).

    A component that a form does not have is None.
    """

    loss: Tensor  # a number
    views: Tensor  # consistency: [S, n] KL(target || P_s); else [S] the risk of each view
    variance: Tensor  # consistency: [n] of P_s over views, summed over candidates; else of risks
    mass: Tensor | None = None  # consistency: [n] mean probability of all invariant candidates
    means: Tensor | None = None  # consistency over listed candidates: [listed] of P_s over views
    variances: Tensor | None = None  # the same: [listed]


@finishes_before_exit
def invariance_loss(
    queries: Tensor,
    documents: Tensor,
    positives: Tensor | tuple[Tensor, Tensor] | None = None,
    *,
    form: str = "consistency",
    candidates: Tensor | tuple[Tensor, Tensor] | None = None,
    invariant: Tensor | tuple[Tensor, Tensor] | None = None,
    gates: tuple[Tensor, Tensor] | None = None,
    exclude: tuple[Tensor, Tensor] | None = None,
    exclude_ids: tuple[Tensor, Tensor] | None = None,
    temperature: float | Tensor | None = None,
    log_scale: Tensor | float | None = None,
    query_ids: Tensor | None = None,
    document_ids: Tensor | None = None,
    mode: str | None = None,
) -> Invariance:
    """Computes how much retrieval changes between views of a query: rewrites, context windows.

    Each of the S views has a distribution ``P_s`` over candidate documents: the softmax of its
    scores. No matrix ``[n, m]`` is ever formed. Three forms:

    - "consistency" (I1): the mean over views of ``KL(target || P_s)``, where the target is the mean
      of the P_s, restricted to the `invariant` candidates, renormalised and held constant.
    - "risk" (I2): mean plus variance over views of the contrastive loss R_s. With `gates`, scores
      are multiplied by the sigmoid of others that come from the variant part of a query and are
      held constant. After Zhang et al., Dynamic Graph Neural Networks Under Spatio-Temporal
      Distribution Shift (NeurIPS 2022).
    - "variance" (I3): the variance of the R_s alone. Krueger et al., Out-of-Distribution
      Generalization via Risk Extrapolation (arXiv:2003.00688), V-REx.

    Variances are those of a population (divided by S).

    Args:
        queries: ``[S, n, dim]`` float32, bfloat16, float16 or float64.
        documents: ``[m, dim]`` for all views, or ``[S, m, dim]``: document i is the same in each.
        positives: as in `contrastive_loss`, for "risk" and "variance".
        form: "consistency", "risk" or "variance".
        candidates: for "consistency": ``[n, k]`` int64 indices of documents or
            ``(offsets [n + 1], indices)``, the only candidates of each query; all by default.
            torch.compile breaks its graph at them.
        invariant: for "consistency": the invariant candidates. With `candidates` a bool for each of
            them, ``[n, k]`` or ``[listed]``; else ``(offsets [n + 1], indices)``. All by default.
        gates: for "risk": ``(queries [S, n, e], documents [m, e] or [S, m, e])``.
        exclude: ``(offsets [n + 1], indices)``: documents that are no candidates of a query. Not
            with `candidates`.
        temperature: scores are divided by it; a number or a tensor, which then gets a gradient.
        log_scale: scores are multiplied by its exponential instead.
        exclude_ids, query_ids, document_ids, mode: as in `contrastive_loss`, for "risk" and
            "variance".

    Returns:
        `Invariance`: the loss, a mean over queries, and its components. A query without a
        candidate, or without an invariant one, has loss 0.

    Raises:
        ValueError: shapes that do not fit, an index out of range, an option of another form.
        TypeError: dtypes that cannot be used.

    Example:
        >>> rewrites = torch.stack([torch.eye(3), torch.eye(3).flip(0)])
        >>> result = invariance_loss(rewrites, torch.eye(3))
        >>> result.loss
        tensor(0.0631)
        >>> result.views.shape, result.mass
        (torch.Size([2, 3]), tensor([1., 1., 1.]))
    """
    if form not in FORMS:
        raise ValueError(f"{_OP}: form must be one of {FORMS}, got {form!r}")
    q, d = _views("queries", queries), _views("documents", documents, shared=True)
    if len(d) != len(q) and documents.ndim == 3:
        raise ValueError(f"{_OP}: documents are of {len(d)} views, but queries of {len(q)}")
    masks: dict[str, Any] = {
        "exclude_ids": exclude_ids,
        "query_ids": query_ids,
        "document_ids": document_ids,
        "mode": mode,
    }
    scale: dict[str, Any] = {"temperature": temperature, "log_scale": log_scale}
    if form == "consistency":
        _unused(form, positives=positives, gates=gates, **masks)
        return _consistency(q, d, loss_inputs.scale(_OP, **scale), candidates, invariant, exclude)
    _unused(form, candidates=candidates, invariant=invariant)
    if form == "variance":
        _unused(form, gates=gates)
    if positives is None:
        raise ValueError(f"{_OP}: form {form!r} needs positives")
    gate_pairs: list[Any] = [None] * len(q) if gates is None else _gates(gates, len(q))
    masks["mode"] = "each" if mode is None else mode
    options: dict[str, Any] = {"exclude": exclude, **scale, **masks}
    risks = torch.stack(
        [
            contrastive_loss(x, d[s % len(d)], positives, gates=gate, **options)
            for s, (x, gate) in enumerate(zip(q, gate_pairs, strict=True))
        ]
    )
    variance = risks.var(correction=0)
    loss = variance if form == "variance" else risks.mean() + variance
    return Invariance(loss, risks.detach(), variance.detach())


def _views(name: str, x: Any, *, shared: bool = False) -> list[Tensor]:
    """Returns the matrix of each view, or a single one that all views share."""
    loss_inputs.floating(_OP, name, x)
    if x.ndim == 2 and shared:
        return [x]
    if x.ndim != 3 or len(x) == 0:
        allowed = "[rows, dim] or [views, rows, dim]" if shared else "[views, rows, dim]"
        raise ValueError(f"{_OP}: {name} must have shape {allowed}, got {tuple(x.shape)}")
    return list(x.unbind(0))


def _unused(form: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{_OP}: form {form!r} has no use for {name}")


def _gates(gates: Any, views: int) -> list[tuple[Tensor, Tensor]]:
    if not (isinstance(gates, (tuple, list)) and len(gates) == 2):
        raise TypeError(f"{_OP}: gates must be a pair (queries, documents)")
    q = _views("queries of gates", gates[0])
    d = _views("documents of gates", gates[1], shared=True)
    if len(q) != views or len(d) not in (1, views):
        raise ValueError(f"{_OP}: gates are of {len(q)} views, but queries of {views}")
    return [(x, d[s % len(d)]) for s, x in enumerate(q)]


def _consistency(
    q: list[Tensor],
    d: list[Tensor],
    scale: Tensor,
    candidates: Any,
    invariant: Any,
    exclude: Any,
) -> Invariance:
    views, n = len(q), len(q[0])
    sides = [f" of view {s}" for s in range(views)]
    pairs = [
        loss_inputs.matched(_OP, x, d[s % len(d)], (f"queries{sides[s]}", f"documents{sides[s]}"))
        for s, x in enumerate(q)
    ]
    if candidates is not None:
        if exclude is not None:
            raise ValueError(f"{_OP}: pass candidates or exclude, not both")
        return _over_lists(pairs, loss_inputs.checked_scale(_OP, scale), candidates, invariant)
    excluded = None if exclude is None else loss_inputs.lists(_OP, exclude, "exclude", n)
    kept = None if invariant is None else loss_inputs.lists(_OP, invariant, "invariant", n)
    mean = Mixture(-1 if views > 1 else 0, True, (1 / views,) * views)  # exactly 0 for one view
    queries, documents = ([pair[i] for pair in pairs] for i in (0, 1))
    found = divergence(
        _OP,
        queries,
        documents[:1] if len(d) == 1 else documents,
        scale.expand(views),
        mean,
        sides,
        exclude=excluded,
        listed=kept,
    )
    details = (x.to(found.loss.dtype) for x in (found.divergences, found.variances, found.masses))
    return Invariance(found.loss, *details)


def _over_lists(
    pairs: list[tuple[Tensor, Tensor]], scale: Tensor, candidates: Any, invariant: Any
) -> Invariance:
    offsets, indices = loss_inputs.candidates(_OP, candidates, len(pairs[0][0]))
    loss_inputs.check_lists(_OP, offsets, indices, "candidates", len(pairs[0][1]))
    for s, pair in enumerate(pairs):
        loss_inputs.check_finite(_OP, (f"queries of view {s}", f"documents of view {s}"), pair)
    scores = [
        sums.scaled(loss_inputs.finite_scores(_OP, found).double(), scale)
        for found in _scores_of_views(pairs, offsets, indices)
    ]
    kept = None
    if invariant is not None:
        if not isinstance(invariant, Tensor) or invariant.dtype != torch.bool:
            raise TypeError(f"{_OP}: with candidates, invariant must be a bool tensor")
        shapes: list[tuple[int, ...]] = [(len(indices),)]
        if isinstance(candidates, Tensor):
            shapes.append(tuple(candidates.shape))
        if tuple(invariant.shape) not in shapes:
            raise ValueError(
                f"{_OP}: invariant must have shape {' or '.join(map(str, shapes))}, one per "
                f"candidate, got {tuple(invariant.shape)}"
            )
        kept = invariant.reshape(-1)
    agreement = listed.consistency(torch.stack(scores), offsets, kept)
    mean, spread = agreement.means.detach(), agreement.variances.detach()
    results = (
        sums.total(agreement.losses) / len(agreement.losses),
        agreement.divergences.detach(),
        listed.sums(spread, offsets),
        listed.sums(mean if kept is None else mean * kept, offsets),
        mean,
        spread,
    )
    return Invariance(*(x.to(result_dtype(pairs[0][0])) for x in results))


def _scores_of_views(
    pairs: list[tuple[Tensor, Tensor]], offsets: Tensor, indices: Tensor
) -> Iterable[Tensor]:
    """Returns the scores ``[listed]`` of each view."""
    documents = pairs[0][1]
    if any(own is not documents for _, own in pairs):
        return [listed.scores(*pair, offsets, indices) for pair in pairs]
    # In one call, so that backward has one gradient of the documents instead of one for each view.
    views = len(pairs)
    starts = torch.arange(views, device=offsets.device)[:, None] * len(indices)
    tiled = torch.cat([(offsets[:-1] + starts).reshape(-1), offsets[-1:] * views])
    queries = torch.cat([own for own, _ in pairs])
    found = listed.scores(queries, documents, tiled, indices.repeat(views))
    return found.reshape(views, len(indices))
