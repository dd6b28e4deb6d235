"""Adds views of the documents, cut to context windows of so many words, to drawn batches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

import numpy as np

from ..data import TrainingSet
from ..integers import as_integer
from ..ragged_lists import Integers
from .batches import Batch
from .drawing import DrawingPolicy, random_places

_WORD = re.compile(r"\S+")


class DrawWindows:
    """Adds views of the documents, cut to context windows, to the batches of another policy.

    A view of a document is its first w words, w drawn from `words` anew at each step. Words are
    what white space separates; titles stay whole. A document of fewer words is its own view, which
    then agrees with it by construction. Documents of equal title and text have the same windows in
    a batch, whichever query they were drawn for.

    Args:
        policy: draws the passages.
        words: widths of windows, in words.
        n_views: windows drawn for a document at each step, of different widths.
        seed: of the random draws.

    Raises:
        TypeError: a number that is no integer.
        ValueError: a width below 1 or given twice, fewer than one view, more views than widths.

    Example:
        >>> from tilefold.data import TrainingSet
        >>> from tilefold.ragged_lists import Lists
        >>> from tilefold.train import Draw
        >>> lists = Lists.pack([[0]]), Lists.pack([[]])
        >>> data = TrainingSet(["q"], ["who?"], ["a"], ["she and he"], *lists, [()])
        >>> policy = DrawWindows(Draw(data, group_size=1, seed=0), [2], seed=0)
        >>> policy.batch([0], step=0).document_views
        (['she and'],)
    """

    def __init__(
        self, policy: DrawingPolicy, words: Sequence[int], *, n_views: int = 1, seed: int
    ) -> None:
        widths = [as_integer(width, "DrawWindows", "words", at_least=1) for width in words]
        if len(set(widths)) < len(widths):
            raise ValueError(f"DrawWindows: words must be different widths, got {widths}")
        n_views = as_integer(n_views, "DrawWindows", "n_views", at_least=1)
        if n_views > len(widths):
            raise ValueError(
                f"DrawWindows: n_views must be at most the number of widths, {len(widths)}, got "
                f"{n_views}"
            )
        if as_integer(seed, "DrawWindows", "seed") < 0:
            raise ValueError(f"DrawWindows: seed must be 0 or more, got {seed}")
        self.policy = policy
        self.words = widths
        self.n_views = n_views
        self.seed = seed

    @property
    def data(self) -> TrainingSet:
        """The training set that is drawn from."""
        return self.policy.data

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries; arguments as in `Draw.batch`."""
        batch = self.policy.batch(rows, step=step)
        if not batch.documents:
            return batch._replace(document_views=([],) * self.n_views)
        by_document = [
            self._views(text, int(group), step)
            for text, group in zip(batch.documents, batch.document_ids, strict=True)
        ]
        return batch._replace(document_views=tuple(map(list, zip(*by_document, strict=True))))

    def with_data(self, data: TrainingSet) -> DrawWindows:
        """Returns the same policy over other data."""
        policy = self.policy.with_data(data)
        return DrawWindows(policy, self.words, n_views=self.n_views, seed=self.seed)

    def _views(self, text: str, group: int, step: int) -> list[str]:
        # `document_ids` number the texts of the training set, so the draw depends on seed, step and
        # text alone. The last number keeps it independent of draws for the query of that number.
        rng = np.random.default_rng([self.seed, step, group, 3])
        chosen = random_places(rng, len(self.words), self.n_views, first=False)
        return [first_words(text, self.words[place]) for place in chosen]


def first_words(text: str, n: int) -> str:
    """Returns a text up to the end of its n-th word, with the white space between words.

    Example:
        >>> first_words("she  and he", 2)
        'she  and'
    """
    last = next(islice(_WORD.finditer(text), n - 1, None), None)
    return text if last is None else text[: last.end()]
