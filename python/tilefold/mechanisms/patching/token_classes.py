"""Classes of the tokens of axiomatic pairs: words added, other occurrences of them, the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...models import Encoder
from .axiomatic_pairs import AxiomaticPairs

FIRST, ADDED, OCCURRENCES, REST = "first token", "added words", "other occurrences", "other tokens"
TOKEN_CLASSES = FIRST, ADDED, OCCURRENCES, REST


def token_classes(pairs: AxiomaticPairs, encoder: Encoder) -> NDArray[np.int8]:
    """Returns the class of each token of the clean passages.

    Args:
        pairs: of `axiomatic_pairs`, made for this encoder.
        encoder: of the passages.

    Returns:
        int8 ``[pairs, tokens]``, places in `TOKEN_CLASSES`; -1 where a passage has no such token.
        The first token is one that the tokenizer adds, such as [CLS]; without one, no token has
        that class. Other occurrences are those of the words added to the clean passage; for LNC1,
        whose added words are fillers, there are none. All else, such as [SEP], is the rest.
    """
    tokens = [row["input_ids"] for row in encoder.tokenize(pairs.clean)]
    special = set(encoder.tokenizer.all_special_ids) - {encoder.tokenizer.unk_token_id}
    found = np.full((len(tokens), max(map(len, tokens))), -1, np.int8)
    for row, (ids, n) in enumerate(zip(tokens, pairs.tokens, strict=True)):
        end = len(ids)
        while end and ids[end - 1] in special:
            end -= 1
        begin = end - n
        found[row, : len(ids)] = TOKEN_CLASSES.index(REST)
        if pairs.name != "LNC1":
            for at in range(begin - n + 1):
                if ids[at : at + n] == ids[begin:end]:
                    found[row, at : at + n] = TOKEN_CLASSES.index(OCCURRENCES)
        found[row, begin:end] = TOKEN_CLASSES.index(ADDED)
        if ids[0] in special:
            found[row, 0] = TOKEN_CLASSES.index(FIRST)
    return found
