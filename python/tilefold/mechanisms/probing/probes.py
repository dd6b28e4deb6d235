"""Probes, which predict the relevant passage from the rows of a layer.

`ConcatenationProbe` is the published one. It is affine in the query and the passages, and the order
of passages is independent of the query; so the query cannot help, and it can only learn what
distinguishes relevant passages as such. `shuffle_queries` is the control that shows it. The other
probes can compare a query with a passage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from .candidates import present


class _Probe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Trains and applies a probe; a subclass builds the module that scores passages.

    Args:
        n_candidates: number of passages of a sample, one of them relevant.
        epochs: passes over the samples, each with newly drawn negatives in a new order.
        batch_size, learning_rate: of Adam. The study has 32,768 and 1e-4, on 70,000 samples.
        validation_fraction: share of samples on which the best epoch is selected.
        random_state: seed of all random choices.
    """

    def __init__(
        self,
        n_candidates: int = 2,
        *,
        epochs: int = 30,
        batch_size: int = 256,
        learning_rate: float = 5e-3,
        validation_fraction: float = 0.1,
        random_state: int = 42,
    ) -> None:
        self.n_candidates = n_candidates
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def _module(self, dim: int) -> nn.Module:
        raise NotImplementedError

    def fit(self, X: NDArray[Any], y: NDArray[Any] | None = None) -> _Probe:  # noqa: N803
        """Trains the probe, and keeps the weights of the best epoch on held-out samples.

        Args:
            X: ``[n, 1 + passages, dim]`` a query and its passages, `n_candidates` or more.
            y: ``[n]`` number of the relevant passage; 0 by default.

        Raises:
            ValueError: fewer passages than `n_candidates`, fewer than two samples.
        """
        x = _checked(X, self.n_candidates, exactly=False)
        if len(x) < 2:
            raise ValueError(f"{type(self).__name__}: expected 2 samples or more, got {len(x)}")
        relevant = np.zeros(len(x), np.int64) if y is None else np.asarray(y, np.int64)
        rng = np.random.default_rng(self.random_state)
        order = rng.permutation(len(x))
        cut = max(1, round(self.validation_fraction * len(x)))
        held, kept = order[:cut], order[cut:]
        shown, places = present(x, self.n_candidates, y=relevant, rows=held, seed=rng)
        self.n_features_in_ = x.shape[2]
        self.classes_ = np.arange(self.n_candidates)
        self._train(x, relevant, kept, (shown, places), rng)
        return self

    def _train(
        self,
        x: NDArray[Any],
        relevant: NDArray[np.int64],
        kept: NDArray[np.int64],
        held: tuple[NDArray[Any], NDArray[np.int64]],
        rng: np.random.Generator,
    ) -> None:
        # Rows of one scale make one learning rate fit all layers.
        self.scale_ = float(np.sqrt(np.mean(np.square(x[kept], dtype=np.float64)))) or 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.module_ = self._module(x.shape[2])
        parameters = list(self.module_.parameters())
        best, weights = -1.0, {k: v.clone() for k, v in self.module_.state_dict().items()}
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate) if parameters else None
        for _ in range(self.epochs if optimizer is not None else 0):
            some = rng.permutation(kept)
            for begin in range(0, len(some), self.batch_size):
                rows = some[begin : begin + self.batch_size]
                shown, places = present(x, self.n_candidates, y=relevant, rows=rows, seed=rng)
                loss = F.cross_entropy(self._scores(shown), torch.from_numpy(places))
                optimizer.zero_grad()  # type: ignore[union-attr]
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()  # type: ignore[union-attr]
            accuracy = float((self.decision_function(held[0]).argmax(1) == held[1]).mean())
            if accuracy > best:
                best = accuracy
                weights = {k: v.clone() for k, v in self.module_.state_dict().items()}
        self.module_.load_state_dict(weights)

    def _scores(self, x: NDArray[Any]) -> Tensor:
        rows = torch.from_numpy(np.asarray(x, np.float32) / np.float32(self.scale_))
        scores: Tensor = self.module_(rows[:, 0], rows[:, 1:])
        return scores

    def decision_function(self, X: NDArray[Any]) -> NDArray[np.float32]:  # noqa: N803
        """Computes the scores of passages, ``[n, n_candidates]``.

        Args:
            X: ``[n, 1 + n_candidates, dim]``.
        """
        check_is_fitted(self, "module_")
        x = _checked(X, self.n_candidates, exactly=True)
        with torch.no_grad():
            scores: NDArray[np.float32] = self._scores(x).numpy()
        return scores

    def predict(self, X: NDArray[Any]) -> NDArray[np.int64]:  # noqa: N803
        """Predicts the number of the relevant passage, ``[n]``."""
        places: NDArray[np.int64] = self.decision_function(X).argmax(axis=1)
        return places


class ConcatenationProbe(_Probe):
    """The published probe: one linear layer on ``[q; p_1; ...; p_N]``, with a logit per place."""

    def _module(self, dim: int) -> nn.Module:
        return _Concatenation(dim, self.n_candidates)

    @property
    def coef_(self) -> NDArray[np.float32]:
        """Weights ``[n_candidates, (1 + n_candidates) dim]``, for rows divided by `scale_`."""
        check_is_fitted(self, "module_")
        coefficients: NDArray[np.float32] = (
            self.module_.get_parameter("linear.weight").detach().numpy()
        )
        return coefficients


class BilinearProbe(_Probe):
    """Scores a passage by ``q^T A p``."""

    def _module(self, dim: int) -> nn.Module:
        return _Bilinear(dim)


class InteractionProbe(_Probe):
    """Scores a passage by a linear layer on ``[q * p; |q - p|]``, the same for all places."""

    def _module(self, dim: int) -> nn.Module:
        return _Interaction(dim)


class DotProductProbe(_Probe):
    """Scores a passage by ``<q, p>``: nothing is learned."""

    def _module(self, dim: int) -> nn.Module:
        return _DotProduct()


class _Concatenation(nn.Module):
    def __init__(self, dim: int, n: int) -> None:
        super().__init__()
        self.linear = nn.Linear((1 + n) * dim, n)

    def forward(self, queries: Tensor, passages: Tensor) -> Tensor:
        scores: Tensor = self.linear(torch.cat([queries, passages.flatten(1)], dim=1))
        return scores


class _Bilinear(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(dim, dim) / dim)

    def forward(self, queries: Tensor, passages: Tensor) -> Tensor:
        return torch.einsum("ni,ij,ncj->nc", queries, self.matrix, passages)


class _Interaction(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, 1)

    def forward(self, queries: Tensor, passages: Tensor) -> Tensor:
        q = queries[:, None]
        scores: Tensor = self.linear(torch.cat([q * passages, (q - passages).abs()], dim=2))
        return scores.squeeze(2)


class _DotProduct(nn.Module):
    def forward(self, queries: Tensor, passages: Tensor) -> Tensor:
        return torch.einsum("nd,ncd->nc", queries, passages)


def _checked(x: Any, n_candidates: int, *, exactly: bool) -> NDArray[Any]:
    array = np.asarray(x)
    fits = array.ndim == 3 and (
        array.shape[1] == 1 + n_candidates if exactly else array.shape[1] > n_candidates
    )
    if not fits:
        passages = str(n_candidates) if exactly else f"{n_candidates} or more"
        raise ValueError(
            f"X must have shape [samples, 1 + passages, dim] with {passages} passages, got "
            f"{array.shape}"
        )
    return array
