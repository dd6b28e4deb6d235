"""Finds equal texts of a batch by their tokens, whatever the padding.

Tokenizers of sentence-transformers return tensors with one row per text, padded to the longest; for
StaticEmbedding they return the concatenated tokens of all texts, with offsets.
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

# Features that a model reads beside the text, or instead of it.
_NOT_TEXT = ("pixel_values", "pixel_values_videos", "input_features", "input_values")


# Hashes are not tensors, so torch.compile cannot trace them.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def masks_of_duplicates(columns: Sequence[Features], op: str) -> dict[str, Any]:
    """Computes masks of repeated texts, as arguments of `contrastive_loss`.

    Args:
        columns: the features of anchors, positives, and of any further columns of documents.
        op: the public class, for messages.

    Returns:
        `query_ids` and `document_ids`, int64 and equal for equal texts in every process, and
        `exclude`, the documents of this batch that are equal to the anchor.

    Raises:
        ValueError: features from which texts cannot be compared.
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
    """Hashes the tokens of each text to 64 bits, equal in every process."""
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in _texts(features, op)]
    return np.frombuffer(b"".join(digests), np.int64).copy()


def _texts(features: Features, op: str) -> list[bytes]:
    """Returns the bytes of each text's tokens, without padding."""
    if "input_ids" not in features or any(key in features for key in _NOT_TEXT):
        raise ValueError(
            f"{op}: mask_duplicates compares texts by input_ids alone, but the features are "
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
