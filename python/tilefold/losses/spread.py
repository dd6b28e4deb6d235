"""Spreads a batch over ranks, each of which owns a part of its queries and of its documents.

A rank scores its own queries against the documents of all ranks, so only embeddings and their
gradients are communicated, never scores. Before that, ranks exchange descriptions of their batches:
where one of them is invalid, all ranks raise the same error, and none waits for another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..distributed import collectives
from ..ragged_lists import Integers, Lists, checked, shares, transposed, united
from ..torch_ops import checked_factor
from ..torch_ops.dispatch import host_array
from ..torch_ops.identity import excluded, identity, rows_of
from .loss_inputs import Batch, check_finite


class _AllRanks(NamedTuple):
    """Positives and ids of all ranks, in global rows.

    `exclude` lists, for this rank's queries only, the documents that are excluded by their ids.
    """

    positives: Lists | None
    query_ids: Integers | None
    document_ids: Integers | None
    exclude: Lists | None


class Part(NamedTuple):
    """The batches whose losses are this rank's contribution to the loss."""

    query_batch: Batch  # its queries against the documents of all ranks
    document_batch: Batch | None  # its documents against the queries of all: roles exchanged
    n_queries: int  # of all ranks
    n_documents: int  # of all ranks, that are a positive
    world: int


def part(
    op: str, batch: Callable[[], Batch], options: dict[str, Any], group: dist.ProcessGroup
) -> Part:
    """Gathers the rows and ids of other ranks that this rank's part of the loss needs.

    Raises:
        ValueError: on all ranks, where `batch` of one of them raises or returns an invalid batch,
            where ranks differ in an option that must be equal, or where no rank has a query.
    """
    try:
        own = batch()
        _check(op, own)
        facts = _facts(own, options)
    except Exception as error:
        message = str(error).removeprefix(f"{op}: ")
        collectives.all_gather_json({"error": message}, group)
        raise ValueError(f"{op}: rank {dist.get_rank()}: {message}") from error
    rank_facts = collectives.all_gather_json(facts, group)
    _agree(op, rank_facts, dist.get_process_group_ranks(group))
    if not any(facts["sizes"][0] for facts in rank_facts):
        raise ValueError(f"{op}: queries must have at least 1 row on some rank, got 0 on all")
    return _part(own, rank_facts, options["symmetric"], group)


def _check(op: str, batch: Batch) -> None:
    """Raises the errors of the op before communication, so that no rank waits for a failed one."""
    m = len(batch.documents)
    checked_factor(batch.scale, batch.queries.dtype, op)
    check_finite(op, ("queries", "documents"), (batch.queries, batch.documents))
    positives = _in_numpy(batch.positives)
    counts = np.diff(checked(positives, op, "positives", m).offsets)
    if not counts.all():
        raise ValueError(f"{op}: query {int(counts.argmin())} has no positive")
    if batch.soft_targets is not None:
        shares(positives, host_array(batch.soft_targets), op, "soft_targets", m)
    exclude, exclude_ids = (
        None if lists is None else _in_numpy(lists) for lists in (batch.exclude, batch.exclude_ids)
    )
    ids = None if batch.document_ids is None else host_array(batch.document_ids)
    excluded(op, m, exclude, exclude_ids, ids)


def _facts(batch: Batch, options: dict[str, Any]) -> dict[str, Any]:
    graph, indices = torch.is_grad_enabled(), host_array(batch.positives[1])
    named = () if batch.exclude_ids is None else batch.exclude_ids[1]
    masks = ("soft_targets", "exclude_ids", "query_ids", "document_ids")
    arguments = {name: getattr(batch, name) for name in masks}
    return {
        "error": None,
        "sizes": [
            len(batch.queries),
            len(batch.documents),
            len(indices),
            len(np.unique(indices)),
            len(named),
        ],
        "wanted": [graph and x.requires_grad for x in (batch.queries, batch.documents)],
        "dim": batch.queries.shape[1],
        "dtype": str(batch.queries.dtype),
        "scale": float(batch.scale.detach()),
        "grad mode": "enabled" if graph else "disabled",
        **{name: "absent" if x is None else "given" for name, x in arguments.items()},
        **options,
    }


def _agree(op: str, rank_facts: list[dict[str, Any]], names: list[int]) -> None:
    for name, facts in zip(names, rank_facts, strict=True):
        if facts["error"] is not None:
            raise ValueError(f"{op}: rank {name}: {facts['error']}")
    first = rank_facts[0]
    for fact in [fact for fact in first if fact not in ("sizes", "wanted")]:
        for name, facts in zip(names, rank_facts, strict=True):
            one, other = first[fact], facts[fact]
            # The scale of replicas may differ in its last bits.
            if one != other and not (fact == "scale" and math.isclose(one, other, rel_tol=1e-3)):
                raise ValueError(
                    f"{op}: {fact} must be the same on all ranks, but is {one} on rank {names[0]} "
                    f"and {other} on rank {name}"
                )


def _part(
    own: Batch, rank_facts: list[dict[str, Any]], symmetric: bool, group: dist.ProcessGroup
) -> Part:
    n, m, entries, listed, named = ([facts["sizes"][i] for facts in rank_facts] for i in range(5))
    wants_queries, wants_documents = (
        any(facts["wanted"][i] for facts in rank_facts) for i in range(2)
    )

    def gathered(x: Tensor | None, sizes: list[int]) -> Integers | None:
        return None if x is None else host_array(collectives.all_gather_rows(x, sizes, group))

    query_ids, document_ids = gathered(own.query_ids, n), gathered(own.document_ids, m)
    positives = exclude = None
    if query_ids is not None or document_ids is not None:
        offsets, rows = own.positives
        rows = rows + sum(m[: dist.get_rank(group)])
        positives = _gather_lists((offsets, rows), n, entries, group)
    if own.exclude_ids is not None and document_ids is not None:
        exclude = rows_of(_in_numpy(own.exclude_ids), document_ids)
    all_ranks = _AllRanks(positives, query_ids, document_ids, exclude)
    query_batch = _with_all_documents(own, m, wants_documents, all_ranks, group)
    document_batch = None
    if symmetric:
        owners = None if positives is None else transposed(positives, np.arange(sum(m)))
        exchanged = _exchange_roles(own)
        if own.exclude_ids is not None and exchanged.query_ids is not None:
            all_exclude_ids = _gather_lists(own.exclude_ids, n, named, group)
            excluded_lists = rows_of(all_exclude_ids, host_array(exchanged.query_ids))
            exclude = transposed(excluded_lists, np.arange(len(exchanged.queries)))
        all_ranks = _AllRanks(owners, document_ids, query_ids, exclude)
        document_batch = _with_all_documents(exchanged, n, wants_queries, all_ranks, group)
    return Part(query_batch, document_batch, sum(n), sum(listed), len(n))


def _gather_lists(
    lists: tuple[Tensor, Tensor], n: list[int], entries: list[int], group: dist.ProcessGroup
) -> Lists:
    offsets, indices = lists
    counts = host_array(collectives.all_gather_rows(offsets.diff(), n, group))
    return Lists(
        np.concatenate([[0], np.cumsum(counts)]),
        host_array(collectives.all_gather_rows(indices, entries, group)),
    )


def _exchange_roles(own: Batch) -> Batch:
    """Exchanges the roles of queries and documents that are a positive of some query.

    Ids and exclusions are symmetric, so they exchange roles as well.
    """
    positives = _in_numpy(own.positives)
    listed = np.unique(positives.indices)
    exclude = None if own.exclude is None else transposed(_in_numpy(own.exclude), listed)
    rows = torch.from_numpy(listed)
    return own._replace(
        queries=own.documents[rows],
        documents=own.queries,
        positives=_in_torch(transposed(positives, listed)),
        exclude=None if exclude is None else _in_torch(exclude),
        query_ids=None if own.document_ids is None else own.document_ids[rows],
        document_ids=own.query_ids,
    )


def _with_all_documents(
    own: Batch,
    sizes: list[int],
    wanted: bool,
    all_ranks: _AllRanks,
    group: dist.ProcessGroup,
) -> Batch:
    """Returns the batch of this rank's queries and the documents of all ranks.

    Args:
        own: the batch of this rank.
        sizes: number of documents of each rank.
        wanted: whether any rank needs the gradient of its documents.
        all_ranks: positives and ids of all ranks.
        group: the process group of the ranks.
    """
    first = sum(sizes[: dist.get_rank(group)])
    positives = own.positives[0], own.positives[1] + first
    exclude = None if own.exclude is None else (own.exclude[0], own.exclude[1] + first)
    ids = None if own.query_ids is None else host_array(own.query_ids)
    known = all_ranks.positives, all_ranks.query_ids
    mask = identity(_in_numpy(positives), sum(sizes), ids, all_ranks.document_ids, known)
    for lists in (all_ranks.exclude, None if mask is None else mask.pairs()):
        if lists is not None:
            both = lists if exclude is None else united(lists, _in_numpy(exclude), sum(sizes))
            exclude = _in_torch(both)
    return own._replace(
        documents=collectives.all_gather_with_gradient(own.documents, sizes, wanted, group),
        positives=positives,
        exclude=exclude,
        exclude_ids=None,
        query_ids=None,
        document_ids=None,
    )


def _in_numpy(lists: tuple[Tensor, Tensor]) -> Lists:
    return Lists(*(host_array(part) for part in lists))


def _in_torch(lists: Lists) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(lists.offsets), torch.from_numpy(lists.indices)
