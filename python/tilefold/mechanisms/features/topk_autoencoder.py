"""TopKAutoencoder: writes an embedding as a sum of a few directions out of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from ...arrays import as_vectors, widened
from ...files.done_once import read_checked, write_checked
from ...integers import as_integer
from .autoencoder_training import TrainingOptions, train_autoencoder

_FORMAT, _VERSION = "format version", 1
_NAMES = "encoder", "encoder_bias", "decoder", "pre_bias", "scale", "k"
_CELLS = 1 << 22  # activations at a time: 16 MiB
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TopKAutoencoder:
    """Sparse autoencoder whose codes have at most k features that are not zero.

    ``codes = TopK(ReLU(encoder @ (x - pre_bias) / scale + encoder_bias))``, and an embedding is
    reconstructed as ``scale * codes @ decoder + pre_bias``. Rows of the decoder, the directions of
    the features, have length 1.

    Args:
        encoder: float32 ``[n_features, dim]``.
        encoder_bias: float32 ``[n_features]``.
        decoder: float32 ``[n_features, dim]``.
        pre_bias: float32 ``[dim]``.
        scale: root mean square distance of the embeddings from their mean.
        k: maximum number of features of an embedding.

    Source: Gao et al., "Scaling and evaluating sparse autoencoders" (2024), sections 2.1 to 2.4.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
        >>> model = TopKAutoencoder.fit(x, n_features=32, k=4, epochs=5, progress=False)
        >>> model.encode(x).shape, int(np.diff(model.encode(x).indptr).max())
        ((200, 32), 4)
    """

    encoder: Floats
    encoder_bias: Floats
    decoder: Floats
    pre_bias: Floats
    scale: float
    k: int

    @classmethod
    def fit(
        cls,
        embeddings: Any,
        *,
        n_features: int,
        k: int,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        aux_k: int | None = None,
        aux_weight: float = 1 / 32,
        dead_after: int | None = None,
        seed: int = 0,
        progress: bool | str = True,
    ) -> TopKAutoencoder:
        """Trains an autoencoder of embeddings, which are centred and scaled first.

        The loss is the squared error, plus the auxiliary loss that revives dead features: the error
        that is left is reconstructed from features that have not been active for a while.

        Args:
            embeddings: ``[n, dim]`` of float32.
            n_features: number of features.
            k: maximum number of features of an embedding.
            epochs: passes over the embeddings.
            batch_size: embeddings in a step.
            learning_rate: of Adam; it falls linearly to 0 over the last fifth of the steps.
            aux_k: dead features that reconstruct the error; by default half of dim.
            aux_weight: weight of the auxiliary loss; 0 for none.
            dead_after: embeddings in a row without a feature after which it is dead in training; by
                default 2 n, two passes.
            seed: of weights and of the order of embeddings.
            progress: whether to show progress on stderr; a string labels it.

        Raises:
            TypeError: embeddings of a dtype that is none of vectors.
            ValueError: no embeddings, all the same, or some that are not finite; k above
                n_features; a number that is too small.
        """
        op = "TopKAutoencoder.fit"
        x = _checked(embeddings, op, None)
        mean, scale = _mean_and_scale(x, op)
        n_features = as_integer(n_features, op, "n_features", at_least=1)
        k = as_integer(k, op, "k", at_least=1)
        if k > n_features:
            raise ValueError(f"{op}: k must be at most n_features, {n_features}, got {k}")
        options = TrainingOptions(
            k=k,
            epochs=as_integer(epochs, op, "epochs", at_least=1),
            batch_size=as_integer(batch_size, op, "batch_size", at_least=1),
            learning_rate=_positive(learning_rate, op, "learning_rate"),
            aux_k=as_integer(
                max(1, x.shape[1] // 2) if aux_k is None else aux_k, op, "aux_k", at_least=1
            ),
            aux_weight=_positive(aux_weight, op, "aux_weight", zero=True),
            dead_after=as_integer(
                2 * len(x) if dead_after is None else dead_after, op, "dead_after", at_least=1
            ),
            seed=as_integer(seed, op, "seed", at_least=0),
        )
        rows = torch.from_numpy(((x - mean) / scale).astype(np.float32))
        label = progress if isinstance(progress, str) else f"autoencoder, k = {k}"
        found = train_autoencoder(rows, n_features, options, label if progress else None)
        pre_bias = (mean + scale * found.pre_bias).astype(np.float32)
        return cls(found.encoder, found.encoder_bias, found.decoder, pre_bias, scale, k)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.encoder)

    @property
    def dim(self) -> int:
        """Dimension of the embeddings."""
        return int(self.encoder.shape[1])

    def encode(self, x: Any) -> Any:
        """Computes the codes of embeddings.

        Args:
            x: ``[n, dim]`` of float32.

        Returns:
            `scipy.sparse.csr_array` of float32 ``[n, n_features]``: at most k values a row, all of
            them positive, with rising features.

        Raises:
            TypeError: x of a dtype that is none of vectors.
            ValueError: another dim, or embeddings that are not finite.
        """
        rows = _checked(x, "TopKAutoencoder.encode", self.dim)
        step = max(1, _CELLS // self.n_features)
        blocks = [self._block(rows[begin : begin + step]) for begin in range(0, len(rows), step)]
        shape = (0, self.n_features)
        return sparse.vstack([sparse.csr_array(shape, dtype=np.float32), *blocks], format="csr")

    def _block(self, rows: Floats) -> Any:
        centred = torch.from_numpy((rows - self.pre_bias) / np.float32(self.scale))
        weight, bias = torch.from_numpy(self.encoder), torch.from_numpy(self.encoder_bias)
        best = torch.topk(torch.addmm(bias, centred, weight.T), self.k, dim=1)
        values, features = best.values.relu().numpy(), best.indices.numpy()
        owners = np.repeat(np.arange(len(rows)), self.k)
        cells = owners, features.reshape(-1)
        made = sparse.csr_array((values.reshape(-1), cells), shape=(len(rows), self.n_features))
        made.eliminate_zeros()
        return made

    def decode(self, codes: Any) -> Floats:
        """Computes the embeddings of codes.

        Args:
            codes: ``[n, n_features]``, of scipy.sparse or dense.

        Returns:
            float32 ``[n, dim]``.

        Raises:
            ValueError: codes of another shape.
        """
        if codes.ndim != 2 or codes.shape[1] != self.n_features:
            raise ValueError(
                f"TopKAutoencoder.decode: codes must be [n, {self.n_features}], got "
                f"{list(codes.shape)}"
            )
        found: Floats = np.float32(self.scale) * (codes @ self.decoder) + self.pre_bias
        return found.astype(np.float32)

    def reconstruct(self, x: Any) -> Floats:
        """Computes ``decode(encode(x))``, float32 ``[n, dim]``."""
        return self.decode(self.encode(x))

    def explained_variance(self, x: Any) -> float:
        """Computes the share of the variance of embeddings that reconstructions explain.

        It is ``1 - sum ||x - reconstruct(x)||^2 / sum ||x - mean(x)||^2``: below 0 where the mean
        is nearer to the embeddings; NaN where these do not differ.

        Args:
            x: ``[n, dim]`` of float32.
        """
        rows = _checked(x, "TopKAutoencoder.explained_variance", self.dim).astype(np.float64)
        total = np.square(rows - rows.mean(0)).sum() if len(rows) else 0.0
        left = np.square(rows - self.reconstruct(rows.astype(np.float32))).sum()
        return float(1 - left / total) if total > 0 else float("nan")

    def dead(self, x: Any) -> NDArray[np.bool_]:
        """Returns which features no embedding of x has, bool ``[n_features]``.

        Args:
            x: ``[n, dim]`` of float32.
        """
        used = np.bincount(self.encode(x).indices, minlength=self.n_features)
        return np.asarray(used == 0)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns all that `from_arrays` needs, as arrays by name."""
        return {name: np.asarray(getattr(self, name)) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> TopKAutoencoder:
        """Returns the autoencoder of `to_arrays`.

        Raises:
            ValueError: other names.
        """
        if set(arrays) != set(_NAMES):
            raise ValueError(
                f"TopKAutoencoder.from_arrays: expected {', '.join(_NAMES)}, got "
                f"{', '.join(arrays)}"
            )
        weights: Any = {name: np.ascontiguousarray(arrays[name], np.float32) for name in _NAMES[:4]}
        return cls(**weights, scale=float(arrays["scale"]), k=int(arrays["k"]))

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file that `load` reads; there is no file before it is whole."""
        write_checked(Path(path), {**self.to_arrays(), _FORMAT: np.array(_VERSION)})

    @classmethod
    def load(cls, path: str | Path) -> TopKAutoencoder:
        """Reads the file of `save`.

        Raises:
            FileNotFoundError: no such file.
            CorruptedFolderError: not a whole safetensors file, or not what was written.
            ValueError: a file of another kind or version.
        """
        arrays = read_checked(Path(path))
        version = arrays.pop(_FORMAT, None)
        if version is None or int(version) != _VERSION or set(arrays) != set(_NAMES):
            raise ValueError(
                f"TopKAutoencoder.load: {path} is no autoencoder of format version {_VERSION}"
            )
        return cls.from_arrays(arrays)


def _checked(x: Any, op: str, dim: int | None) -> Floats:
    rows = widened(as_vectors(x, op, "embeddings"))
    if dim is not None and rows.shape[1] != dim:
        raise ValueError(f"{op}: embeddings must have dim {dim}, got {rows.shape[1]}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{op}: embeddings must be finite, got NaN or infinity")
    return rows


def _mean_and_scale(x: Floats, op: str) -> tuple[NDArray[np.float64], float]:
    """Returns the mean, and the root mean square distance from it."""
    if not len(x) or (x == x[0]).all():
        raise ValueError(f"{op}: embeddings must differ from each other, got {len(x)} alike")
    mean = x.mean(0, dtype=np.float64)
    return mean, float(np.sqrt(np.square(x - mean).sum(1).mean()))


def _positive(value: float, op: str, name: str, *, zero: bool = False) -> float:
    if not 0 <= value < np.inf or (value == 0 and not zero):
        wanted = "0 or more" if zero else "above 0"
        raise ValueError(f"{op}: {name} must be {wanted} and finite, got {value}")
    return float(value)
