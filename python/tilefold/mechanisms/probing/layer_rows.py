"""Computes pooled rows of all layers, which probes and comparisons of models read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ...models import POOLINGS, Encoder
from ...models.length_batches import by_length, evaluating


def layer_rows(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    progress: bool | str = True,
) -> NDArray[np.float32]:
    """Computes a row for every text and layer, the output of the embeddings first.

    Rows are pooled as the encoder pools its last layer, without padding; with "last" pooling they
    are scaled to length 1, as in the study.

    Args:
        encoder: of a model that returns hidden states.
        texts: strings.
        batch_size: texts per forward pass.
        progress: whether to show progress on stderr; a string labels it.

    Returns:
        float32 ``[layers + 1, len(texts), width]``; zeros for a text without any token.

    Raises:
        ValueError: a model whose hidden states are of several widths, or that returns none.
    """
    found: NDArray[np.float32] | None = None
    batches = by_length(
        texts,
        encoder.tokenize,
        batch_size=batch_size,
        max_length=encoder.max_length,
        progress=progress,
    )
    pool = POOLINGS[encoder.pooling]
    with evaluating(encoder), torch.inference_mode(), contextlib.closing(batches):
        for rows, tokens in batches:
            batch = encoder.pad(tokens)
            output = encoder.run(batch, output_hidden_states=True)
            states = getattr(output, "hidden_states", None)
            if not states or len({state.shape[-1] for state in states}) > 1:
                raise ValueError("layer_rows: the model does not return hidden states of one width")
            pooled = torch.stack([pool(state, batch["attention_mask"]).float() for state in states])
            if encoder.pooling == "last":
                pooled = F.normalize(pooled, dim=-1)
            if found is None:
                found = np.zeros((len(states), len(texts), pooled.shape[2]), np.float32)
            found[:, rows] = pooled.cpu().numpy()
    if found is None:
        raise ValueError("layer_rows: no text has a token")
    return found
