"""Tests the links from neurons to passages by knocking neurons out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...integers import as_integer
from ...models import Encoder
from ..neurons.feedforward import NAMES, own_feed_forwards
from ..neurons.interventions import random_neurons
from ..neurons.knowledge_neurons import Neurons, scaled_neurons

Floats = NDArray[np.float64]
_OP = "link_effects"


class LinkEffects(NamedTuple):
    """Changes of scores when the neurons that link a query to its passage are knocked out.

    A change is that of the passage's score minus the mean change of all passages, in standard
    deviations of the query's scores.
    """

    linked: Floats  # [queries]
    random: Floats  # [queries] with as many other neurons of the same layers knocked out

    @property
    def precise(self) -> NDArray[np.bool_]:
        """Whether the linked passage loses more than all passages on average, ``[queries]``."""
        lost: NDArray[np.bool_] = self.linked < 0
        return lost


def link_effects(
    encoder: Encoder,
    queries: Sequence[str],
    documents: Any,
    passages: Sequence[int],
    query_codes: Any,
    passage_codes: Any,
    *,
    n: int = 8,
    seed: int = 0,
    names: Sequence[tuple[str, str]] = NAMES,
) -> LinkEffects:
    """Knocks out the neurons that link each query to a passage, and measures the passage's score.

    The neurons of a link are those with the largest products of the query's and the passage's
    sparse codes.

    Args:
        encoder: of queries.
        queries: n texts.
        documents: ``[m, dim]`` embeddings of all passages.
        passages: n rows of documents, the one that each query is linked to.
        query_codes, passage_codes: CSR ``[n, neurons]`` and ``[m, neurons]`` of `NeuronCodes` over
            all layers.
        n: neurons that are knocked out; fewer where a link has fewer, none where it has none, and
            then the change is 0.
        seed: of the random neurons.
        names: see `feed_forwards`.

    Raises:
        ValueError: lengths that differ, codes of another width, n below 1.
    """
    n = as_integer(n, _OP, "n", at_least=1)
    widths = [part.neurons for part in own_feed_forwards(_OP, encoder, names)]
    for name, codes, rows in (
        ("query_codes", query_codes, len(queries)),
        ("passage_codes", passage_codes, len(documents)),
    ):
        if codes.shape != (rows, sum(widths)):
            raise ValueError(
                f"{_OP}: {name} must be [{rows}, {sum(widths)}], got {list(codes.shape)}"
            )
    if len(passages) != len(queries):
        raise ValueError(f"{_OP}: expected {len(queries)} passages, got {len(passages)}")
    vectors = np.asarray(documents, np.float64)
    found = np.zeros((2, len(queries)))
    products = query_codes.multiply(passage_codes[list(passages)]).tocsr()
    for row, (query, passage) in enumerate(zip(queries, passages, strict=True)):
        own = _strongest(products[row], n, widths)
        if not own:
            continue
        before = _scores(encoder, query, vectors, frozenset(), names)
        others = random_neurons(encoder, own, seed=[seed, row], names=names)
        for place, neurons in enumerate((own, others)):
            change = _scores(encoder, query, vectors, neurons, names) - before
            found[place, row] = (change[passage] - change.mean()) / max(before.std(), 1e-12)
    return LinkEffects(*found)


def _strongest(products: Any, n: int, widths: Sequence[int]) -> Neurons:
    """Returns the neurons of the largest products of a row."""
    order = np.argsort(-products.data, kind="stable")[:n]
    starts = np.cumsum([0, *widths])
    columns = products.indices[order]
    layers = np.searchsorted(starts, columns, side="right") - 1
    return frozenset(
        (int(layer), int(column - starts[layer]))
        for layer, column in zip(layers, columns, strict=True)
    )


def _scores(
    encoder: Encoder,
    query: str,
    vectors: Floats,
    neurons: Neurons,
    names: Sequence[tuple[str, str]],
) -> Floats:
    with scaled_neurons(encoder, neurons, 0.0, names=names):
        row = encoder.encode([query], progress=False)[0]
    scores: Floats = vectors @ row.astype(np.float64)
    return scores
