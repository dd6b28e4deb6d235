"""Represents texts by their most active neurons, as sparse vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models import Encoder
from ..neurons.feedforward import NAMES
from .neuron_rows import Pooling, neuron_rows


@dataclass(frozen=True)
class NeuronCodes:
    """Sparse vectors of texts over the neurons of an encoder.

    A neuron's activation in a text counts in standard deviations above its mean over some texts, so
    that neurons which are active everywhere do not, nor any that does not vary; of these values the
    largest n of a text are kept. Queries and passages differ in length, so each side has means of
    its own. Two texts that share active neurons have a large inner product,
    and a `SparseIndex` of passages is an inverted index from neurons to passages. Sparse codes for
    retrieval are those of learned sparse retrieval (SPLADE: Formal, Piwowarski and Clinchant,
    2021), whose features are words; neurons as keys of what a block adds are those of Geva et al.
    ("Transformer Feed-Forward Layers Are Key-Value Memories", 2021).

    Args:
        encoder: of the texts.
        mean, deviation: ``[neurons]`` of activations over the texts of `fit`.
        n: neurons of a text that are kept.
        pooling: of `neuron_rows`.
        layers: whose neurons; None for all.
        names: see `feed_forwards`.

    Example:
        >>> from tilefold.models import minilm
        >>> from tilefold.retrieval.sparse_index import SparseIndex
        >>> passages = ["Cats sleep a lot.", "The invoice is due.", "It rains in autumn."]
        >>> queries = ["a sleeping cat", "unpaid invoices", "wet weather"]
        >>> stated, asked = (NeuronCodes.fit(minilm(), x, n=256) for x in (passages, queries))
        >>> index = SparseIndex(stated.encode(passages))
        >>> index.search(asked.encode(queries), k=1).ids.ravel()
        array([0, 1, 2])
    """

    encoder: Encoder
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    n: int
    pooling: Pooling = "max"
    layers: Sequence[int] | None = None
    names: Sequence[tuple[str, str]] = NAMES

    @classmethod
    def fit(cls, encoder: Encoder, texts: Sequence[str], **options: Any) -> NeuronCodes:
        """Computes the means and deviations of neurons over texts of one kind.

        Args:
            encoder: of the texts.
            texts: two or more, such as all passages; of queries take others than are evaluated.
            **options: of `fit_encode`.

        Raises:
            ValueError: see `fit_encode`.
        """
        return cls.fit_encode(encoder, texts, **options)[0]

    @classmethod
    def fit_encode(
        cls,
        encoder: Encoder,
        texts: Sequence[str],
        *,
        n: int = 64,
        pooling: Pooling = "max",
        layers: Sequence[int] | None = None,
        batch_size: int = 32,
        names: Sequence[tuple[str, str]] = NAMES,
        progress: bool | str = False,
    ) -> tuple[NeuronCodes, Any]:
        """Equals `fit`, and then `encode` of the same texts, which are read once.

        Args:
            encoder: of the texts.
            texts: two or more.
            n: neurons of a text that are kept.
            pooling, layers, batch_size, names, progress: of `neuron_rows`.

        Returns:
            The codes, and scipy CSR ``[texts, neurons]``.

        Raises:
            ValueError: fewer than two texts, n below 1, or see `neuron_rows`.
        """
        if n < 1:
            raise ValueError(f"NeuronCodes: n must be at least 1, got {n}")
        if len(texts) < 2:
            raise ValueError(f"NeuronCodes: expected two or more texts, got {len(texts)}")
        options: dict[str, Any] = {"pooling": pooling, "layers": layers, "names": names}
        rows = neuron_rows(encoder, texts, batch_size=batch_size, progress=progress, **options)
        mean = rows.mean(0, dtype=np.float64).astype(np.float32)
        deviation = rows.std(0, dtype=np.float64).astype(np.float32)
        codes = cls(encoder, mean, deviation, n, **options)
        return codes, codes._of(rows)

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 32, progress: bool | str = False
    ) -> Any:
        """Returns the sparse vectors of texts.

        Args:
            texts: strings.
            batch_size, progress: of `neuron_rows`.

        Returns:
            scipy CSR ``[texts, neurons]`` float32, at most n positive values in a row.
        """
        rows = neuron_rows(
            self.encoder,
            texts,
            pooling=self.pooling,
            layers=self.layers,
            batch_size=batch_size,
            names=self.names,
            progress=progress,
        )
        return self._of(rows)

    def _of(self, rows: NDArray[np.float32]) -> Any:
        """Returns the sparse vectors of activations, which are overwritten."""
        rows -= self.mean
        rows /= np.where(varies(self.mean, self.deviation), self.deviation, np.inf)
        return largest_values(rows, self.n)


def varies(mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns which coordinates vary by more than the rounding of float32.

    Args:
        mean, deviation: ``[columns]`` of each coordinate.
    """
    found: NDArray[np.bool_] = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return found


def largest_values(rows: NDArray[np.float32], n: int) -> Any:
    """Keeps the n largest positive values of each row; of equal values the first.

    Args:
        rows: ``[texts, columns]``.
        n: values that are kept.

    Returns:
        scipy CSR of the same shape.

    Example:
        >>> largest_values(np.float32([[3, 1, 2], [-1, 0, 5]]), 2).toarray().tolist()
        [[3.0, 0.0, 2.0], [0.0, 0.0, 5.0]]
    """
    from scipy.sparse import csr_matrix

    n = min(n, rows.shape[1])
    columns = np.sort(np.argsort(-rows, 1, kind="stable")[:, :n], 1)
    values = np.take_along_axis(rows, columns, 1)
    positive = values > 0
    offsets = np.concatenate([[0], np.cumsum(positive.sum(1))])
    parts = values[positive], columns[positive], offsets
    return csr_matrix(parts, shape=rows.shape)
