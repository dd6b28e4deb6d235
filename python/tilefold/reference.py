"""Defines the correct result of every op in plain NumPy or torch, slowly and obviously.

Kernels, tests and benchmarks are compared with these functions; nothing else defines a result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LANES = 16


def canonical_scores(
    queries: NDArray[np.generic], documents: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Computes inner products by the arithmetic that defines every score of tilefold.

    A product of two fp32 (fp16, bf16, int8) numbers is exact in fp64. Sixteen fp64 accumulators:
    lane ``l`` adds the products of dimensions ``j`` with ``j % 16 == l`` in increasing ``j``. The
    lanes are then added pairwise, ``(l, l+8), (l, l+4), (l, l+2), (l, l+1)``, and the sum is
    rounded once to fp32. Fused multiply-adds give the same bits, because the products are exact.

    Args:
        queries: ``[n, dim]``, any real dtype of at most 32 bits.
        documents: ``[m, dim]``.

    Returns:
        Scores ``[n, m]`` float32.

    Example:
        >>> canonical_scores(np.ones((1, 3), np.float32), np.eye(3, dtype=np.float32))
        array([[1., 1., 1.]], dtype=float32)
    """
    q, x = _padded(queries), _padded(documents)
    lanes = np.zeros((len(q), len(x), _LANES))
    for start in range(0, q.shape[1], _LANES):
        block = slice(start, start + _LANES)
        lanes += q[:, None, block] * x[None, :, block]
    for step in (8, 4, 2, 1):
        lanes = lanes[..., :step] + lanes[..., step : 2 * step]
    with np.errstate(over="ignore"):  # a score beyond fp32 is infinite
        return lanes[..., 0].astype(np.float32)


def unit_vectors(vectors: NDArray[np.generic]) -> NDArray[np.float32]:
    """Divides each row by its norm; a row of zeros stays zero.

    The squared norm is the fp64 sum of a canonical score before its rounding; its square root and
    the quotients are rounded to fp64, and each quotient once more to fp32. The cosine of two
    vectors is *defined* as the canonical score of their unit vectors. It lies within ``2^-22`` of
    the real cosine, and may be above 1 by as much. With a row of zeros it is 0.

    Args:
        vectors: ``[n, dim]``, any real dtype of at most 32 bits.

    Returns:
        ``[n, dim]`` float32.

    Example:
        >>> unit_vectors(np.float32([[3, 4], [0, 0]]))
        array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    padded = _padded(vectors)
    norms = np.sqrt(_added(padded * padded))
    norms[norms == 0] = 1
    return (padded[:, : vectors.shape[1]] / norms[:, None]).astype(np.float32)


def squared_distances(
    queries: NDArray[np.generic], documents: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Computes the squared L2 distances that tilefold returns.

    Each difference is rounded to fp64, and so is its square; they are added in the order of a
    canonical score, without fused multiply-adds, and the sum is rounded once to fp32. There is no
    cancellation as in ``|q|^2 - 2 <q, x> + |x|^2``: equal vectors have distance 0, and the relative
    error is that of one rounding to fp32.

    Args:
        queries: ``[n, dim]``, any real dtype of at most 32 bits.
        documents: ``[m, dim]``.

    Returns:
        ``[n, m]`` float32.

    Example:
        >>> squared_distances(np.float32([[0, 0]]), np.float32([[3, 4], [0, 0]]))
        array([[25.,  0.]], dtype=float32)
    """
    differences = _padded(queries)[:, None] - _padded(documents)[None]
    with np.errstate(over="ignore"):
        return _added(differences * differences).astype(np.float32)


def nearest(
    queries: NDArray[np.generic],
    documents: NDArray[np.generic],
    k: int,
    *,
    ids: NDArray[np.int64] | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Finds the k nearest documents of every query: squared distance, then id, ascending.

    Args:
        queries: ``[n, dim]``.
        documents: ``[m, dim]``.
        k: results per query; where fewer remain, the rest has distance inf and id -1.
        ids: ``[m]`` int64 ids of documents; their row numbers if absent.
        valid: ``[n, m]`` documents that a query may retrieve.

    Returns:
        ``(distances [n, k] float32, ids [n, k] int64)``.

    Example:
        >>> nearest(np.float32([[0, 1]]), np.eye(2, dtype=np.float32), 1)[1].tolist()
        [[1]]
    """
    distances = squared_distances(queries, documents)
    n, m = distances.shape
    names = np.arange(m, dtype=np.int64) if ids is None else ids
    best, best_ids = np.full((n, k), np.inf, np.float32), np.full((n, k), -1, np.int64)
    for i in range(n):
        rows = np.arange(m) if valid is None else np.flatnonzero(valid[i])
        rows = rows[np.lexsort((names[rows], distances[i, rows]))][:k]
        best[i, : len(rows)], best_ids[i, : len(rows)] = distances[i, rows], names[rows]
    return best, best_ids


def search(
    queries: NDArray[np.generic],
    documents: NDArray[np.generic],
    k: int,
    *,
    ids: NDArray[np.int64] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    excluded: NDArray[np.bool_] | None = None,
    min_score: NDArray[np.float32] | float = -np.inf,
    max_score: NDArray[np.float32] | float = np.inf,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Finds the k best documents of every query: score descending, then id ascending.

    Args:
        queries: ``[n, dim]``.
        documents: ``[m, dim]``.
        k: results per query; where fewer remain, the rest has score -inf and id -1.
        ids: ``[m]`` int64 ids of documents; their row numbers if absent.
        allowed: ``[m]`` documents that may be retrieved.
        excluded: ``[n, m]`` documents that one query may not retrieve.
        min_score: scalar or ``[n]``, rounded to fp32 like scores, inclusive.
        max_score: scalar or ``[n]``, inclusive.

    Returns:
        ``(scores [n, k] float32, ids [n, k] int64)``.

    Example:
        >>> scores, ids = search(np.ones((1, 2), np.float32), np.eye(2, dtype=np.float32), 1)
        >>> scores.tolist(), ids.tolist()
        ([[1.0]], [[0]])
    """
    scores = canonical_scores(queries, documents)
    n, m = scores.shape
    names = np.arange(m, dtype=np.int64) if ids is None else ids
    low, high = (np.reshape(np.float32(edge), (-1, 1)) for edge in (min_score, max_score))
    valid = (scores >= low) & (scores <= high)
    if allowed is not None:
        valid &= allowed
    if excluded is not None:
        valid &= ~excluded
    best_scores = np.full((n, k), -np.inf, np.float32)
    best_ids = np.full((n, k), -1, np.int64)
    for i in range(n):
        rows = np.flatnonzero(valid[i])
        rows = rows[np.lexsort((names[rows], -scores[i, rows]))][:k]
        best_scores[i, : len(rows)] = scores[i, rows]
        best_ids[i, : len(rows)] = names[rows]
    return best_scores, best_ids


def range_search(
    queries: NDArray[np.generic],
    documents: NDArray[np.generic],
    min_score: NDArray[np.float32] | float,
    **options: Any,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Finds every document of each query that scores at least `min_score`.

    Args:
        queries: ``[n, dim]``.
        documents: ``[m, dim]``.
        min_score: scalar or ``[n]``, rounded to fp32 like scores, inclusive.
        **options: as in `search`.

    Returns:
        ``(offsets [n + 1] int64, scores [hits] float32, ids [hits] int64)``: the answers of
        `search` for k = m, one query after the other, without padding.

    Example:
        >>> range_search(np.ones((1, 2), np.float32), np.eye(2, dtype=np.float32), 1.0)[2].tolist()
        [0, 1]
    """
    scores, ids = search(queries, documents, len(documents), min_score=min_score, **options)
    found = ids >= 0
    return np.cumsum([0, *found.sum(axis=1)], dtype=np.int64), scores[found], ids[found]


def _added(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adds the last axis, a multiple of sixteen long, in the order of a canonical score."""
    lanes = np.zeros((*values.shape[:-1], _LANES))
    for start in range(0, values.shape[-1], _LANES):
        lanes += values[..., start : start + _LANES]
    for step in (8, 4, 2, 1):
        lanes = lanes[..., :step] + lanes[..., step : 2 * step]
    return lanes[..., 0]


def _padded(vectors: NDArray[np.generic]) -> NDArray[np.float64]:
    """Converts vectors to fp64, padding dim with zeros to a multiple of sixteen."""
    rows, dim = vectors.shape
    padded = np.zeros((rows, -(-dim // _LANES) * _LANES))
    padded[:, :dim] = vectors
    return padded


def contrastive_losses(
    queries: Any,
    documents: Any,
    positives: Sequence[Sequence[int]],
    *,
    scale: Any = 1.0,
    mode: str = "each",
    left_out: Any = None,
    soft_targets: Sequence[Sequence[float]] | None = None,
    gate_queries: Any = None,
    gate_documents: Any = None,
) -> tuple[Any, Any]:
    """Computes the contrastive loss of each query, and of each positive document, in torch.

    Scores ``s = scale queries @ documents.T`` form the whole matrix, so autograd gives the
    gradients that fused kernels must have. With gates, each score is multiplied by a constant
    between 0 and 1: ``s = scale (queries @ documents.T) * sigmoid(gate_queries @
    gate_documents.T)``. With P the positives of a row, C its other candidates:

    - "each": the mean over p in P of ``logsumexp({s_p} + C) - s_p``;
    - "sum": ``logsumexp(P + C) - logsumexp(P)``;
    - soft targets t, over queries only: ``KL(t || softmax(P + C)) = sum over p in P of
      t_p (log t_p - s_p + logsumexp(P + C))``, with ``0 log 0 = 0``.

    Args:
        queries: ``[n, dim]`` torch tensor of any floating-point dtype.
        documents: ``[m, dim]``.
        positives: documents of each query.
        scale: number or tensor.
        left_out: ``[n, m]`` bool, pairs that are no candidates; positives stay positives.
        soft_targets: one number for each of `positives`, of a query summing to one.
        gate_queries: ``[n, e]``, of the dtype of `queries`; needed with `gate_documents`. Gates get
            no gradient.
        gate_documents: ``[m, e]``.

    Returns:
        Losses ``[n]`` of queries, and ``[m]`` of documents over the queries: 0 where a document is
        nobody's positive.

    Example:
        >>> import torch
        >>> query_losses, document_losses = contrastive_losses(
        ...     torch.eye(2), torch.eye(2), [[0], [1]]
        ... )
        >>> query_losses
        tensor([0.3133, 0.3133])
    """
    import torch

    scores = scale * (queries @ documents.T)
    if gate_queries is not None or gate_documents is not None:
        scores = scores * torch.sigmoid((gate_queries @ gate_documents.T).detach())
    own = torch.zeros(scores.shape, dtype=torch.bool)
    for query, listed in enumerate(positives):
        own[query, list(listed)] = True
    others = ~own if left_out is None else ~own & ~left_out

    def losses(scores: Any, own: Any, others: Any) -> Any:
        result = []
        for s, p, c in zip(scores, own, others, strict=True):
            if not p.any():
                result.append(s.sum() * 0)
            elif mode == "sum":
                result.append(torch.logsumexp(s[p | c], 0) - torch.logsumexp(s[p], 0))
            else:
                alone = [torch.logsumexp(torch.cat([x[None], s[c]]), 0) - x for x in s[p]]
                result.append(torch.stack(alone).mean())
        return torch.stack(result)

    document_losses = losses(scores.T, own.T, others.T)
    if soft_targets is None:
        return losses(scores, own, others), document_losses
    query_losses = []
    for s, p, c, listed, shares in zip(scores, own, others, positives, soft_targets, strict=True):
        t = s.new_tensor(list(shares))
        log_p = s[list(listed)] - torch.logsumexp(s[p | c], 0)
        query_losses.append((torch.special.xlogy(t, t) - t * log_p).sum())
    return torch.stack(query_losses), document_losses


def alignment_losses(
    student: Any, teacher: Any, *, divergence: str = "forward_kl", candidates: Any = None
) -> Any:
    """Computes the divergence of a student's distribution from a teacher's, in torch.

    S and T are the softmax of their scores over the candidates of a query:

    - "forward_kl": ``KL(T || S) = sum_j T_j log(T_j / S_j)``;
    - "reverse_kl": ``KL(S || T)``;
    - "js": ``(KL(S || M) + KL(T || M)) / 2`` with ``M = (S + T) / 2``, at most log 2.

    Args:
        student: ``[n, m]`` torch tensor of scores, already scaled.
        teacher: ``[n, m]``.
        divergence: one of the three.
        candidates: ``[n, m]`` bool; all documents by default.

    Returns:
        ``[n]``, 0 where a query has no candidate.

    Source:
        Lin, Divergence Measures Based on the Shannon Entropy (IEEE Transactions on Information
        Theory, 1991).

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
        >>> alignment_losses(student, teacher, divergence="reverse_kl")
        tensor([0.1201])
    """
    import torch

    def kl(log_p: Any, log_q: Any) -> Any:
        return (log_p.exp() * (log_p - log_q)).sum()

    candidates = torch.ones_like(student, dtype=torch.bool) if candidates is None else candidates
    result = []
    for s_scores, t_scores, own in zip(student, teacher, candidates, strict=True):
        s, t = torch.log_softmax(s_scores[own], 0), torch.log_softmax(t_scores[own], 0)
        if divergence == "forward_kl":
            result.append(kl(t, s))
        elif divergence == "reverse_kl":
            result.append(kl(s, t))
        else:
            m = torch.logaddexp(s, t) - math.log(2)
            result.append((kl(s, m) + kl(t, m)) / 2)
    return torch.stack(result)


def marginal_likelihood_losses(scores: Any, log_likelihoods: Any, *, candidates: Any = None) -> Any:
    """Computes the loss ``-log sum_d R_d exp(l_d)`` of each query, in torch.

    R is the softmax of the scores over the candidates of a query, l the log-likelihood of its
    answer given each of them.

    Args:
        scores: ``[n, m]`` torch tensor, already scaled.
        log_likelihoods: ``[n, m]``, -inf where a document makes the answer impossible.
        candidates: ``[n, m]`` bool; all documents by default.

    Returns:
        ``[n]``, 0 where a query has no candidate.

    Source:
        Sachan et al., End-to-End Training of Multi-Document Reader and Retriever for Open-Domain
        Question Answering (NeurIPS 2021).

    Example:
        >>> import torch
        >>> scores, log_likelihoods = torch.zeros(1, 2), torch.tensor([[0.0, -torch.inf]])
        >>> marginal_likelihood_losses(scores, log_likelihoods)
        tensor([0.6931])
    """
    import torch

    candidates = torch.ones_like(scores, dtype=torch.bool) if candidates is None else candidates
    result = []
    for s, likelihoods, own in zip(scores, log_likelihoods, candidates, strict=True):
        if own.any():
            log_r = torch.log_softmax(s[own], 0)
            result.append(-torch.logsumexp(log_r + likelihoods[own], 0))
        else:
            result.append(s.sum() * 0)
    return torch.stack(result)


def consistency_losses(
    views: Any, *, invariant: Any = None, candidates: Any = None
) -> tuple[Any, Any, Any, Any]:
    """Computes the divergence of several views of a query from their mean, in torch.

    With ``P_s`` the softmax of view s over the candidates, the target T is the mean of P over
    views, restricted to the invariant candidates, renormalised, and a constant. The divergence of a
    view is ``KL(T || P_s)``, and the loss is the mean of divergences over views.

    Args:
        views: ``[S, n, m]`` torch tensor of scores, already scaled.
        invariant: ``[n, m]`` bool, documents that the target keeps; all by default.
        candidates: ``[n, m]`` bool; all documents by default.

    Returns:
        Losses ``[n]`` and divergences ``[S, n]``, 0 where no candidate is invariant; means and
        population variances ``[n, m]`` of P over views, 0 for documents that are no candidates.

    Example:
        >>> import torch
        >>> losses, _, means, _ = consistency_losses(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]))
        >>> losses, means
        (tensor([0.1201]), tensor([[0.5000, 0.5000]]))
    """
    import torch

    everything = torch.ones(views.shape[1:], dtype=torch.bool)
    candidates = everything if candidates is None else candidates
    invariant = everything if invariant is None else invariant
    probabilities, divergences = [], []
    for scores, own, shared in zip(views.unbind(1), candidates, invariant, strict=True):
        log_p = torch.log_softmax(scores[:, own], 1)
        p = torch.zeros_like(scores)
        p[:, own] = log_p.exp()
        probabilities.append(p)
        # In log space, since the probabilities of the invariant documents may all underflow.
        log_target = torch.log_softmax(torch.logsumexp(log_p, 0)[shared[own]], 0).detach()
        divergences.append((log_target.exp() * (log_target - log_p[:, shared[own]])).sum(1))
    p, kl = torch.stack(probabilities, 1), torch.stack(divergences, 1)
    return kl.mean(0), kl, p.mean(0), p.var(0, correction=0)


def mined_negatives(
    queries: NDArray[np.generic],
    documents: NDArray[np.generic],
    positives: Sequence[Sequence[int]],
    *,
    n_negatives: int = 1,
    range_min: int = 0,
    range_max: int | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    sampling: str = "top",
    seed: int = 0,
    groups: Sequence[int] | None = None,
    exclude: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Mines hard negatives of every query from the whole matrix of scores.

    Candidates of a query are the first document of each group, without the groups of positives and
    of excluded documents. They are ranked by score, then row; of the ranks from range_min to
    range_max those pass whose score is at least min_score and at most max_score,
    ``p - absolute_margin`` and ``p - |p| relative_margin``, p the lowest score of a positive.
    Limits are computed in fp64 and rounded to fp32.

    Args:
        queries: ``[n, dim]``.
        documents: ``[m, dim]``.
        positives: rows of documents of each query.
        n_negatives: number of negatives per query.
        range_min: first rank.
        range_max: rank after the last; all if absent.
        min_score: inclusive, like the other limits.
        max_score: see `min_score`.
        absolute_margin: see above.
        relative_margin: see above.
        sampling: "top": the highest ranks that pass; "random": the first in `drawing_order`.
        seed: the seed of `drawing_order`.
        groups: ``[m]``, equal for duplicate documents; all differ if absent.
        exclude: rows of documents of each query that are no candidates.

    Returns:
        Rows of documents of each query, by rank.

    Example:
        >>> documents = np.float32([[3], [2], [1]])
        >>> mined_negatives(documents[:1], documents, [[0]], absolute_margin=4)
        [[2]]
    """
    scores = canonical_scores(queries, documents)
    same = list(range(len(documents))) if groups is None else [groups.index(g) for g in groups]
    mined = []
    for query, own in enumerate(positives):
        s = scores[query]
        left_out = {same[d] for d in (*own, *(exclude[query] if exclude else ()))}
        candidates = sorted(set(same) - left_out, key=lambda d: (-s[d], d))[range_min:range_max]
        p = float(min(s[d] for d in own))
        low = -math.inf if min_score is None else min_score
        high = [math.inf if max_score is None else max_score]
        high += [] if absolute_margin is None else [p - absolute_margin]
        high += [] if relative_margin is None else [p - abs(p) * relative_margin]
        passed = [d for d in candidates if np.float32(low) <= s[d] <= np.float32(min(high))]
        rank = {d: i for i, d in enumerate(passed)}
        chosen = passed
        if sampling == "random":
            order = drawing_order(seed, query, len(documents))
            chosen = [d for d in order if d in rank]
        mined.append(sorted(chosen[:n_negatives], key=lambda d: rank[d]))
    return mined


def drawing_order(seed: int, query: int, m: int) -> list[int]:
    """Computes the order in which m documents are drawn for a query: a pseudo-random permutation.

    Eight rounds of a Feistel network over numbers of two equal halves, of at least four bits each;
    a number that is not a document is encrypted again until it is one (cycle walking).

    Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002; Steele, Lea and
    Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, for the mixing.

    Example:
        >>> sorted(drawing_order(0, 0, 5))
        [0, 1, 2, 3, 4]
    """
    word, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mixed(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & word
        x = (x ^ x >> 27) * 0x94D049BB133111EB & word
        return x ^ x >> 31

    key = mixed(mixed(seed + golden & word) + query + golden & word)
    bits = max(4, math.ceil((m - 1).bit_length() / 2))
    half = (1 << bits) - 1

    def once(number: int) -> int:
        left, right = number >> bits, number & half
        for i in range(8):
            turned = mixed(key + i * golden + right & word) & half
            left, right = right, left ^ turned
        return left << bits | right

    order = []
    for place in range(m):
        document = once(place)
        while document >= m:
            document = once(document)
        order.append(document)
    return order


def activation_statistics(
    x: NDArray[Any], thresholds: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Computes statistics of columns in float64, under the names of `ActivationStatistics`.

    Args:
        x: ``[n, width]``.
        thresholds: values; the share above each is computed.

    Returns:
        Arrays ``[width]``, and "fraction_above" ``[thresholds, width]``.

    Example:
        >>> activation_statistics(np.array([[1.0], [3.0]]), [2.0])["fraction_above"]
        array([[0.5]])
    """
    wide = np.asarray(x, np.float64)
    mean = wide.mean(0)
    limits = np.asarray(thresholds, np.float32)[:, None, None]
    return {
        "mean": mean,
        "variance": ((wide - mean) ** 2).mean(0),
        "min": wide.min(0),
        "max": wide.max(0),
        "absmax": np.abs(wide).max(0),
        "fraction_above": (wide > limits).mean(1),
    }


def weight_attribution(length: Any, name: str, module: Any, steps: int) -> Any:
    """Computes integrated gradients of the rows of a linear layer, one step at a time.

    Args:
        length: a function from parameters by name to the number that is attributed.
        name: the name of the layer, such as "encoder.layer.0.intermediate.dense".
        module: the layer, a `torch.nn.Linear`, or the `Conv1D` of GPT-2.
        steps: number of interpolation steps from 1e-6 to 1.

    Returns:
        ``[out]``: ``sum over j of |W * mean over steps of d length / dW|``.
    """
    import torch

    total = torch.zeros_like(module.weight)
    for alpha in torch.linspace(1e-6, 1, steps):
        weight = (alpha * module.weight).detach().requires_grad_()
        changed = {f"{name}.weight": weight}
        if module.bias is not None:
            changed[f"{name}.bias"] = (alpha * module.bias).detach()
        total += torch.autograd.grad(length(changed), weight)[0]
    rows = 1 if isinstance(module, torch.nn.Linear) else 0
    return (module.weight * total / steps).abs().sum(rows).detach()
