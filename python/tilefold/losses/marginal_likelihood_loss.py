"""Computes the marginal likelihood of an answer over the documents that a retriever may choose."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..losses import listed, loss_inputs, sums
from ..torch_ops import result_dtype
from .finished_calls import finishes_before_exit

_OP = "marginal_likelihood_loss"


@finishes_before_exit
def marginal_likelihood_loss(
    queries: Tensor,
    documents: Tensor,
    log_likelihoods: Tensor,
    candidates: Tensor | tuple[Tensor, Tensor],
    *,
    temperature: float | Tensor | None = None,
    log_scale: Tensor | float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Computes the negative logarithm of a likelihood that is summed over listed documents.

    With R the softmax of the retriever's scores over the documents listed for a query, and l_d the
    log-likelihood of the answer given document d, the loss of a query is

        ``-log sum_d R_d exp(l_d)``

    Its gradient with respect to the score of d is ``R_d - P_d``, P being the posterior of
    documents given the answer: the softmax of scores plus l. Adding a constant to all l_d of a
    query changes no gradient.

    - With l_d from a language model, it trains the retriever of EMDR2.
    - With l_d 0 for positives and -inf for the others, it maximizes the summed likelihood of
      several positives: mode "sum" of `contrastive_loss`, over listed documents alone.

    Args:
        queries: ``[n, dim]`` embeddings; float32, bfloat16, float16 or float64.
        documents: ``[m, dim]``.
        log_likelihoods: natural logarithms, one for each candidate: ``[listed]``, or ``[n, k]``.
            -inf where a document makes the answer impossible. No gradient flows to them.
        candidates: ``[n, k]`` int64 indices of documents, or ``(offsets [n + 1], indices)`` for
            lists of any length.
        temperature: scores are divided by it; a number or a tensor, which then gets a gradient.
        log_scale: scores are multiplied by its exponential instead.
        reduction: "mean" or "sum" over queries, or "none" for ``[n]``.

    Returns:
        The loss: a number, or ``[n]``; float32, or float64 for float64 embeddings. A query without
        a candidate has loss 0.

    Raises:
        ValueError: shapes that do not fit each other, an index out of range, a temperature that is
            not positive, a NaN or an infinity in an embedding, a log-likelihood that is NaN or
            positive infinity, or a query all of whose log-likelihoods are -inf.
        TypeError: dtypes that cannot be used.

    Source:
        Sachan et al., End-to-End Training of Multi-Document Reader and Retriever for Open-Domain
        Question Answering (NeurIPS 2021), the retriever's term of the objective; Zhang et al.,
        Utility-Focused LLM Annotation for Retrieval and Retrieval-Augmented Generation
        (arXiv:2504.05220), the summed likelihood of positives.

    Example:
        >>> queries, documents = torch.eye(2), torch.eye(2)
        >>> likelihoods = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
        >>> candidates = torch.tensor([[0, 1], [0, 1]])
        >>> marginal_likelihood_loss(queries, documents, likelihoods, candidates)
        tensor(0.3133)
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{_OP}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    scale = loss_inputs.checked_scale(_OP, loss_inputs.scale(_OP, temperature, log_scale))
    q, d = loss_inputs.matched(_OP, queries, documents)
    offsets, indices = loss_inputs.candidates(_OP, candidates, len(q))
    loss_inputs.check_lists(_OP, offsets, indices, "candidates", len(d))
    loss_inputs.check_finite(_OP, ("queries", "documents"), (q, d))
    likelihoods = _checked_likelihoods(log_likelihoods, offsets)
    scores = loss_inputs.finite_scores(_OP, listed.scores(q, d, offsets, indices))
    log_r = listed.log_softmax(sums.scaled(scores.double(), scale), offsets)
    losses = -listed.logsumexp(log_r + likelihoods, offsets)
    if reduction != "none":
        losses = sums.total(losses) / (len(losses) if reduction == "mean" else 1)
    return losses.to(result_dtype(scores))


def _checked_likelihoods(log_likelihoods: Any, offsets: Tensor) -> Tensor:
    """Returns log-likelihoods ``[listed]``, float64."""
    if not isinstance(log_likelihoods, Tensor) or not log_likelihoods.dtype.is_floating_point:
        kind = getattr(log_likelihoods, "dtype", type(log_likelihoods).__name__)
        raise TypeError(f"{_OP}: log_likelihoods must be a floating-point tensor, got {kind}")
    n, total = len(offsets) - 1, int(offsets[-1])
    shape = tuple(log_likelihoods.shape)
    rows = len(shape) == 2 and shape[0] == n
    if log_likelihoods.numel() != total or not (len(shape) == 1 or rows):
        raise ValueError(
            f"{_OP}: log_likelihoods must be one per candidate, {total} of {n} queries, got shape "
            f"{shape}"
        )
    flat = log_likelihoods.detach().reshape(-1).double()
    wrong = torch.isnan(flat) | (flat == math.inf)
    impossible = (flat == -math.inf).double()
    sizes = offsets.diff()
    hopeless = (sizes > 0) & (listed.sums(impossible, offsets) == sizes)
    if wrong.any():
        place = int(wrong.int().argmax())
        query = int(torch.searchsorted(offsets, place, right=True)) - 1
        raise ValueError(
            f"{_OP}: log_likelihoods must be numbers or -inf, got {float(flat[place])} for query "
            f"{query}"
        )
    if hopeless.any():
        raise ValueError(
            f"{_OP}: every log-likelihood of query {int(hopeless.int().argmax())} is -inf, so "
            "nothing can explain its answer"
        )
    return flat
