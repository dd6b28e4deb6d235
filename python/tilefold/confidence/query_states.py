"""Pooled states of a module of the query encoder, in the order of the queries."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..activations import RowStore, capture
from ..activations.capture import Rows
from ..models import Encoder
from ..models.length_batches import by_length, evaluating


def query_states(
    encoder: Encoder, texts: Sequence[str], site: str, *, rows: Rows, batch_size: int = 32
) -> NDArray[np.float32]:
    """Computes the pooled output of a module for each text.

    Args:
        encoder: of queries.
        texts: strings.
        site: dotted name of a module of `encoder.model`, as of `capture`.
        rows: "cls", "mean", "last" or "max", how tokens are pooled.
        batch_size: texts per forward pass.

    Returns:
        float32 ``[n, width]``; zeros for a text without any token.

    Raises:
        ValueError: no such module, a name that stands for several, or none of the texts has a
            token.

    Example:
        >>> from tilefold.models import minilm
        >>> query_states(minilm(), ["cats", "a dog"], "encoder.layer.3", rows="mean").shape
        (2, 384)
    """
    store, order = RowStore(), []
    batches = by_length(
        texts,
        encoder.tokenize,
        batch_size=batch_size,
        max_length=encoder.max_length,
        progress=False,
    )
    reading = capture(encoder.model, site, statistics=False, rows=rows, store=store)
    with reading, evaluating(encoder), torch.inference_mode(), contextlib.closing(batches):
        for places, tokens in batches:
            encoder.run(encoder.pad(tokens))
            order.append(places)
    if len(store) != 1:
        raise ValueError(
            f"query_states: expected states of one module for {site!r}, got {list(store)}"
        )
    states = next(iter(store.values())).float().numpy()
    found = np.zeros((len(texts), states.shape[1]), np.float32)
    found[np.concatenate(order)] = states
    return found
