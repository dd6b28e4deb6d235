"""Which texts of a batch are the same, told by their tokens, whatever the padding.

Tokenizers of sentence-transformers give tensors with a row for each text, padded to the longest; or
for StaticEmbedding one text after the other, with their offsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .mini_batches import Features

# What a model may read beside the text, or instead of it.
_NOT_TEXT = ("pixel_values", "pixel_values_videos", "input_features", "input_values")


# Hashes are no tensors, so torch.compile goes around them.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def masks_of_duplicates(columns: Sequence[Features], op: str) -> dict[str, Any]:
    """Which documents are no negatives, as `contrastive_loss` takes it.

    Args:
        columns: the features of anchors, positives, and of any further columns of documents.
        op: what errors name.

    Returns:
        `query_ids` and `document_ids`, equal for equal texts in every process, and as `exclude` the
        documents among these with the text of the anchor.

    Raises:
        ValueError: features that do not tell texts apart.
    """
    anchors, *others = (_text_ids(column, op) for column in columns)
    documents = np.concatenate(others)
    order = np.argsort(documents, kind="stable")
    begin, end = (np.searchsorted(documents[order], anchors, side) for side in ("left", "right"))
    same = [order[b:e] for b, e in zip(begin, end, strict=True)]
    offsets = np.cumsum([0, *(end - begin)])
    return {
        "query_ids": torch.from_numpy(anchors),
        "document_ids": torch.from_numpy(documents),
        "exclude": (torch.from_numpy(offsets), torch.from_numpy(np.concatenate(same))),
    }


def _text_ids(features: Features, op: str) -> NDArray[np.int64]:
    """A number for each text: 64 bits of a hash of its tokens, the same in every process."""
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in _texts(features, op)]
    return np.frombuffer(b"".join(digests), np.int64).copy()


def _texts(features: Features, op: str) -> list[bytes]:
    """The tokens of each text, without padding."""
    if "input_ids" not in features or any(key in features for key in _NOT_TEXT):
        raise ValueError(
            f"{op}: mask_duplicates tells texts apart by input_ids alone, but the features are "
            f"{sorted(features)}; pass mask_duplicates=False"
        )
    ids = _array(features["input_ids"])
    if ids.ndim == 1 and "offsets" in features:
        return [text.tobytes() for text in np.split(ids, _array(features["offsets"])[1:])]
    mask = features.get("attention_mask")
    kept = np.ones(ids.shape, bool) if mask is None else _array(mask) != 0
    if ids.ndim != 2 or kept.shape != ids.shape:
        raise ValueError(
            f"{op}: mask_duplicates needs input_ids and attention_mask [rows, tokens], got "
            f"shapes {ids.shape} and {kept.shape}; pass mask_duplicates=False"
        )
    return [row[keep].tobytes() for row, keep in zip(ids, kept, strict=True)]


def _array(x: Tensor) -> NDArray[np.int64]:
    return x.detach().to("cpu", torch.int64).numpy()
