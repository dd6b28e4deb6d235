"""Tests the links from neurons to passages by knocking neurons out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...integers import as_integer
from ...models import Encoder
from ..neurons.feedforward import NAMES, own_feed_forwards
from ..neurons.knowledge_neurons import Neurons, scaled_neurons

Floats = NDArray[np.float64]
_OP = "link_effects"


class LinkEffects(NamedTuple):
    """Changes of scores when the neurons that link a query to its passage are knocked out.

    A change is that of the passage's score minus the mean change of all passages, in standard
    deviations of the query's scores.
    """

    linked: Floats  # [queries]
    unlinked: Floats  # [queries] with as many other neurons knocked out, as active in the query


def link_effects(
    encoder: Encoder,
    queries: Sequence[str],
    documents: Any,
    passages: Sequence[int],
    query_codes: Any,
    passage_codes: Any,
    *,
    n: int = 8,
    names: Sequence[tuple[str, str]] = NAMES,
) -> LinkEffects:
    """Knocks out the neurons that link each query to a passage, and measures the passage's score.

    The neurons of a link are those with the largest products of the query's and the passage's
    sparse codes. The control takes neurons of the query's code that the passage's code does not
    have, for each neuron of the link the one with the nearest value. As in knock-outs of knowledge
    neurons (Dai et al., 2022, section 4.2), neurons are set to 0 at all tokens.

    Args:
        encoder: of queries.
        queries: n texts.
        documents: ``[m, dim]`` embeddings of all passages.
        passages: n rows of documents, the one that each query is linked to.
        query_codes, passage_codes: CSR ``[n, neurons]`` and ``[m, neurons]`` of `NeuronCodes` over
            all layers.
        n: neurons that are knocked out; fewer where the link or the control has fewer, none where
            one has none, and then both changes are NaN.
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
    found = np.full((2, len(queries)), np.nan)
    for row, (query, passage) in enumerate(zip(queries, passages, strict=True)):
        asked, stated = (
            codes[[place]].toarray()[0]
            for codes, place in ((query_codes, row), (passage_codes, passage))
        )
        choices = _linked_and_unlinked(asked, stated, n)
        if not len(choices[0]):
            continue
        before = _scores(encoder, query, vectors, frozenset(), names)
        for place, columns in enumerate(choices):
            neurons = _neurons(columns, widths)
            change = _scores(encoder, query, vectors, neurons, names) - before
            found[place, row] = (change[passage] - change.mean()) / max(before.std(), 1e-12)
    return LinkEffects(*found)


def _linked_and_unlinked(asked: Floats, stated: Floats, n: int) -> tuple[list[int], list[int]]:
    """Returns columns with the largest products, and others with as large values in the query."""
    products = asked * stated
    linked = [int(i) for i in np.argsort(-products, kind="stable")[:n] if products[i] > 0]
    free = [int(i) for i in np.flatnonzero((asked > 0) & (stated == 0))]
    linked = linked[: len(free)]
    unlinked = []
    for column in linked:
        nearest = min(free, key=lambda other: abs(float(asked[other] - asked[column])))
        free.remove(nearest)
        unlinked.append(nearest)
    return linked, unlinked


def _neurons(columns: Sequence[int], widths: Sequence[int]) -> Neurons:
    """Returns layers and places of columns."""
    starts = np.cumsum([0, *widths])
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
