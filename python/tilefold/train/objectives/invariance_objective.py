"""Trains rankings to agree between views of a query: the invariance objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ...arrays import check_dim
from ...distributed import processes
from ...integers import as_integer
from ...losses import InvarianceLoss, invariant_candidates
from ...models import BiEncoder
from ..batches import Batch
from .objective import BiEncoderObjective, ObjectiveLoss, check_kind, query_share, widened
from .representation_mask import RepresentationMask

InvarianceCandidates = Literal["batch", "own"]


class InvarianceObjective(BiEncoderObjective):
    """A bi-encoder in training whose distribution over passages agrees between views.

    View 0 is the batch's own queries and documents; its `query_views` and `document_views`
    (rewrites, other context windows) are the others. Usually one term of a `WeightedObjective`
    whose weight rises from 0.

    In the forms "risk" and "variance", no known positive of a query is a negative, nor is a passage
    that is the query itself.

    Args:
        model: the bi-encoder to train.
        loss: of the embeddings of all views.
        candidates: for "consistency": the passages that a query's distributions are over, "batch"
            for all of the batch, or "own" for those drawn for it.
        top_patterns: for "consistency": number of invariant candidates of a query, to which the
            target is restricted. They are chosen in each step by `invariant_candidates`, from the
            probabilities of the views as they are. 0 for all.
        beta: with `top_patterns`: weight of the standard deviation over views in that choice.
        mode: for "risk" and "variance": how several positives of a query combine, as in
            `contrastive_loss`; None for "each".
        mask: for "risk": splits queries into invariant and variant parts; the risks are then over
            the environments that it makes of the views.
        process_group: for candidates "own": processes that the batch is spread over; their mean
            loss is then that of one process with all queries. Other candidates need one process.

    Raises:
        TypeError: another kind of model or loss, a number that is no integer.
        ValueError: an unknown value of candidates, a number out of range, an option that the form
            of the loss has no use for.

    Example:
        >>> from tilefold.losses import InvarianceLoss
        >>> from tilefold.models import BiEncoder, minilm
        >>> objective = InvarianceObjective(BiEncoder(minilm()), InvarianceLoss(temperature=0.05))
    """

    def __init__(
        self,
        model: BiEncoder,
        loss: InvarianceLoss,
        *,
        candidates: InvarianceCandidates = "batch",
        top_patterns: int = 0,
        beta: float = 1.0,
        mode: str | None = None,
        mask: RepresentationMask | None = None,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__(model)
        op = "InvarianceObjective"
        check_kind(self, "loss", loss, InvarianceLoss)
        if candidates not in get_args(InvarianceCandidates):
            raise ValueError(f"{op}: candidates must be 'batch' or 'own', got {candidates!r}")
        top_patterns = as_integer(top_patterns, op, "top_patterns", at_least=0)
        if not 0 <= beta < math.inf:
            raise ValueError(f"{op}: beta must be 0 or more and finite, got {beta}")
        if loss.form != "consistency" and (candidates != "batch" or top_patterns):
            raise ValueError(
                f"{op}: candidates and top_patterns need a loss of form 'consistency', got "
                f"{loss.form!r}"
            )
        if beta != 1.0 and not top_patterns:
            raise ValueError(f"{op}: beta={beta} has no effect without top_patterns")
        if mode is not None and (loss.form == "consistency" or mode not in ("each", "sum")):
            raise ValueError(
                f"{op}: mode must be 'each' or 'sum', of form 'risk' or 'variance', got {mode!r} "
                f"with {loss.form!r}"
            )
        if mask is not None:
            check_kind(self, "mask", mask, RepresentationMask)
            if loss.form != "risk":
                raise ValueError(f"{op}: mask needs a loss of form 'risk', got {loss.form!r}")
            check_dim(op, "embeddings", model.dim, "mask has", mask.dim)
        if process_group is not None and candidates != "own":
            raise ValueError(f"{op}: process_group needs candidates='own', got {candidates!r}")
        self.loss = loss
        self.mode = mode
        self.mask = mask
        self.process_group = process_group
        self.candidates: InvarianceCandidates = candidates
        self.top_patterns = top_patterns
        self.beta = beta

    def sides(self, batch: Batch) -> dict[str, Sequence[str]]:
        """Returns queries, documents, and the views of both, with the same prompts and titles."""
        texts = dict(super().sides(batch))
        for number, view in enumerate(batch.query_views, 1):
            texts[f"queries/{number}"] = self.model.query_texts(view, batch.prompts)
        for number, view in enumerate(batch.document_views, 1):
            texts[f"documents/{number}"] = self.model.document_texts(view, batch.titles)
        return texts

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the invariance loss between the views of a batch.

        Args:
            batch: with views of its queries, of its documents, or as many of both.
            embeddings: of all `sides`.

        Raises:
            ValueError: the batch has no views, or other numbers of views of queries and documents;
                there are several processes, whose passages the loss does not gather.
        """
        if processes.world() > 1 and self.candidates == "batch":
            raise ValueError(
                "InvarianceObjective: expected one process, as the candidates are the passages of "
                f"one process, got {processes.world()}; candidates='own' are those of one query"
            )
        query_views = _views("queries", embeddings, len(batch.query_views))
        document_views = _views("documents", embeddings, len(batch.document_views))
        count = max(len(query_views), len(document_views))
        if count == 1 or min(len(query_views), len(document_views)) not in (1, count):
            raise ValueError(
                "InvarianceObjective: expected views of queries, of documents or as many of both, "
                f"got {len(query_views) - 1} of queries and {len(document_views) - 1} of documents"
            )
        queries = torch.stack(query_views).expand(count, -1, -1)
        # No stack of one: it would copy the documents, most of what the loss stage holds.
        documents = document_views[0] if len(document_views) == 1 else torch.stack(document_views)
        if self.loss.form == "consistency":
            options = self._candidates(batch, queries, documents)
        else:
            options = _labels(batch) | {"mode": self.mode}
        if self.mask is not None:
            queries, gates, views = self.mask.environments(queries, step=batch.step)
            documents = documents if documents.ndim == 2 else documents[views]
            options["gates"] = gates, documents.detach()
        loss: Tensor = self.loss(queries, documents, **options)
        return ObjectiveLoss(loss * query_share(len(batch.queries), self.process_group), {})

    def loss_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of the mask, if there is one."""
        return [] if self.mask is None else list(self.mask.parameters())

    def _candidates(self, batch: Batch, queries: Tensor, documents: Tensor) -> dict[str, Any]:
        """Returns the candidates of each query, and which of them are invariant."""
        options: dict[str, Any] = {}
        if self.candidates == "own":
            if batch.own_candidates is None:
                raise ValueError(
                    "InvarianceObjective: candidates='own' needs batches with own_candidates"
                )
            options["candidates"] = batch.own_candidates
        if self.top_patterns:
            options["invariant"] = invariant_candidates(
                queries,
                documents,
                top=self.top_patterns,
                beta=self.beta,
                temperature=self.loss.temperature,
                **options,
            )
        return options


def _labels(batch: Batch) -> dict[str, Any]:
    """Returns labels and masks for the forms that compare contrastive losses."""
    return {
        "positives": batch.positives,
        "exclude_ids": batch.exclude_ids,
        "query_ids": batch.query_ids,
        "document_ids": batch.document_ids,
    }


def _views(tower: str, embeddings: Mapping[str, Tensor], count: int) -> list[Tensor]:
    """Returns the embeddings of one tower in all views: 1 + count matrices ``[rows, dim]``."""
    sides = [tower, *(f"{tower}/{number}" for number in range(1, count + 1))]
    return [widened(embeddings[side]) for side in sides]
