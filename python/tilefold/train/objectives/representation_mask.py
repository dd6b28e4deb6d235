"""Splits embeddings of queries into an invariant and a variant part by a learned mask."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ...integers import as_integer

SwappedParts = Literal["rewrites", "queries"]
_OP = "RepresentationMask"


class Environments(NamedTuple):
    """Queries and what gates their scores, in E environments."""

    invariant: Tensor  # [E, n, dim], m V
    variant: Tensor  # [E, n, dim], (1 - m) V of the view or the query that is swapped in
    views: list[int]  # E: the view of the invariant part, whose documents belong to it


class RepresentationMask(nn.Module):
    """A mask over the dimensions of a query's embedding, learned with a retriever.

    With V the embedding of a query in a view, ``m = sigmoid(g V + b)``, of which g and b are
    learned; ``m V`` is its invariant part and ``(1 - m) V`` its variant part. `InvarianceObjective`
    with a loss of form "risk" scores passages by the invariant part, and multiplies each score by
    the sigmoid of the variant part's, a constant. Where scores depend on the variant part, the risk
    varies as that part is swapped:

    - "rewrites": the invariant part of each view with the variant part of each view of the query,
      S^2 environments of S views;
    - "queries": each view with its own variant part, and with that of another query of the batch,
      2 S environments. Which one is a function of seed, step and view: queries are shifted along
      the batch.

    The mask belongs to the objective: checkpoints keep it, and the saved retriever, which ranks by
    V, does not need it.

    Args:
        dim: of embeddings.
        swap: which variant parts are swapped in, "rewrites" or "queries".
        gate_temperature: the inner products of variant parts with passages are divided by it before
            the sigmoid. Those of embeddings of length 1 are between -1 and 1.
        seed: of the initial g, normal with variance ``1 / dim``, and of swaps between queries.

    Raises:
        TypeError: a number that is no integer.
        ValueError: an unknown value of swap, a number out of range.

    Example:
        >>> mask = RepresentationMask(4)
        >>> invariant, variant = mask(torch.ones(2, 4))
        >>> torch.allclose(invariant + variant, torch.ones(2, 4))
        True
    """

    def __init__(
        self,
        dim: int,
        *,
        swap: SwappedParts = "rewrites",
        gate_temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dim = as_integer(dim, _OP, "dim", at_least=1)
        if swap not in get_args(SwappedParts):
            raise ValueError(f"{_OP}: swap must be 'rewrites' or 'queries', got {swap!r}")
        if not 0 < gate_temperature < torch.inf:
            raise ValueError(f"{_OP}: gate_temperature must be positive, got {gate_temperature}")
        self.swap: SwappedParts = swap
        self.gate_temperature = gate_temperature
        self.seed = as_integer(seed, _OP, "seed", at_least=0)
        drawn = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(drawn / dim**0.5)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the invariant and the variant parts of embeddings ``[..., dim]``.

        Raises:
            ValueError: embeddings of another dimension.
        """
        if queries.shape[-1] != self.dim:
            raise ValueError(
                f"{_OP}: expected embeddings of dim {self.dim}, got {queries.shape[-1]}"
            )
        weight, bias = (x.to(queries.dtype) for x in (self.weight, self.bias))
        kept = torch.sigmoid(queries @ weight.T + bias)
        return kept * queries, (1 - kept) * queries

    def environments(self, queries: Tensor, *, step: int) -> Environments:
        """Pairs invariant parts with variant parts.

        Args:
            queries: ``[S, n, dim]``, the views of n queries.
            step: of the optimizer.
        """
        invariant, variant = self(queries)
        views, n = queries.shape[:2]
        if self.swap == "rewrites":
            pairs = [(s, variant[t]) for s in range(views) for t in range(views)]
        else:
            pairs = [(s, variant[s]) for s in range(views)]
            pairs += [(s, variant[s].roll(self._shift(n, step, s), 0)) for s in range(views)]
        of_view = [s for s, _ in pairs]
        parts = torch.stack([part for _, part in pairs]) / self.gate_temperature
        return Environments(invariant[of_view], parts.detach(), of_view)

    def _shift(self, n: int, step: int, view: int) -> int:
        """Returns a number of rows that gives every query another one's part, if there is one."""
        rng = np.random.default_rng([self.seed, step, view, 4])
        return int(rng.integers(1, n)) if n > 1 else 0
