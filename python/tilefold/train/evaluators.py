"""Computes further values at each evaluation of a training: held-out loss, your own measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..distributed import processes
from ..integers import as_integer
from ..ragged_lists import Integers
from ..retrieval.exact_search import search
from ..retrieval.running_search import SearchResult
from .drawing import DrawingPolicy
from .objectives import BiEncoderObjective


class Evaluator(Protocol):
    """Computes values at each evaluation of a training, beside the measures of `Validation`.

    An example is the accuracy of a language model that reads what the retriever in training finds
    (Yu et al., ACL 2023, figure 5). `RetrieverTrainer` logs each value as ``eval_<name>``, so that
    `metric_for_best_model` can name it.
    """

    def evaluate(self, objective: BiEncoderObjective, *, step: int) -> Mapping[str, float]:
        """Computes the values.

        Every process of a training calls this method with the same weights, and all of them must
        return the same values. The method must not change weights.

        Args:
            objective: in training; ``objective.model`` is the `BiEncoder`.
            step: number of optimizer steps that are done.

        Returns:
            Values by name, such as ``{"mmlu": 0.41}``.
        """
        ...


@dataclass(frozen=True)
class RankingEvaluator:
    """Ranks documents by the retriever in training, and passes the rankings to a function.

    That function may ask a language model, which reads the documents, for its accuracy.

    Args:
        queries: n texts.
        documents: m texts.
        values: computes values by name from a `SearchResult` with ids ``[n, k]`` of documents. With
            several processes each of them calls it, with the same rankings.
        k: documents per query.
        titles: m titles; None for none.
        batch_size: texts encoded at once.

    Raises:
        ValueError: no queries or documents, another number of titles, k or batch_size below 1.

    Example:
        >>> def accuracy(found):
        ...     return {"answered": float((found.ids[:, 0] == 1).mean())}
        >>> RankingEvaluator(["who?"], ["he", "she"], accuracy, k=1).k
        1
    """

    queries: Sequence[str]
    documents: Sequence[str]
    values: Callable[[SearchResult], Mapping[str, float]]
    k: int = 10
    titles: Sequence[str] | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("k", "batch_size"):
            as_integer(getattr(self, name), "RankingEvaluator", name, at_least=1)
        for name in ("queries", "documents"):
            if not len(getattr(self, name)):
                raise ValueError(f"RankingEvaluator: expected {name}, got none")
        if self.titles is not None and len(self.titles) != len(self.documents):
            raise ValueError(
                f"RankingEvaluator: expected {len(self.documents)} titles, got {len(self.titles)}"
            )

    def evaluate(self, objective: BiEncoderObjective, *, step: int) -> dict[str, float]:
        """Returns the values for rankings of the model as it is."""
        model, columns = objective.model, [] if self.titles is None else [self.titles]
        documents = processes.encode_together(
            model.encode_documents, self.documents, *columns, batch_size=self.batch_size
        )
        queries = processes.encode_together(
            model.encode_queries, self.queries, batch_size=self.batch_size
        )
        scores, ids, *_ = search(queries, documents, self.k)
        return dict(self.values(SearchResult(scores, ids)))


class HeldOutLoss:
    """Computes the training loss on queries that are not trained on, with their own passages.

    A batch has the passages that the policy draws at step 0, so that every evaluation sees the
    same ones; dropout is off. Weights of objectives are those of the current step.

    Args:
        policy: draws from the held-out queries, as ``trainer.draw.with_data(held_out)`` does.
        batch_size: queries of a batch at most, of all processes together; batches are of equal
            size, give or take one query. The loss depends on it, as the passages of a batch are
            negatives of all its queries.

    Raises:
        TypeError: batch_size is no integer.
        ValueError: it is below 1, or leaves processes without a query; no query is held out.

    Example:
        >>> held_out = trainer.draw.data.take([0, 1])  # doctest: +SKIP
        >>> loss = HeldOutLoss(trainer.draw.with_data(held_out))  # doctest: +SKIP
        >>> loss.evaluate(trainer.training_objective, step=0)  # doctest: +SKIP
        {'loss': 2.31}
    """

    def __init__(self, policy: DrawingPolicy, *, batch_size: int = 8) -> None:
        self.policy = policy
        self.batch_size = as_integer(batch_size, "HeldOutLoss", "batch_size", at_least=1)
        n, world = len(policy.data), processes.world()
        if not n:
            raise ValueError("HeldOutLoss: expected queries that are held out, got none")
        smallest = n // -(-n // self.batch_size)
        if smallest < world:
            raise ValueError(
                f"HeldOutLoss: {world} processes cannot share a batch of {smallest} queries; hold "
                f"out more than {n}, or give a batch_size above {self.batch_size}"
            )

    def evaluate(self, objective: BiEncoderObjective, *, step: int) -> dict[str, float]:
        """Returns the mean loss over queries as "loss"; arguments as in `Evaluator.evaluate`."""
        n, training = len(self.policy.data), objective.training
        objective.eval()
        try:
            total = sum(
                self._loss(objective, rows, step) * len(rows)
                for rows in np.array_split(np.arange(n), -(-n // self.batch_size))
            )
        finally:
            objective.train(training)
        return {"loss": total / n}

    def _loss(self, objective: BiEncoderObjective, rows: Integers, step: int) -> float:
        """Returns the mean loss of a batch, of which each process encodes its share."""
        own = np.array_split(rows, processes.world())[processes.rank()]
        batch = self.policy.batch(own, step=0)._replace(step=step)
        with torch.no_grad():
            tokens = {side: one for side, (one,) in objective.tokenize(batch).items()}
            value = objective.compute_loss(batch, objective(tokens)[0]).value
        return processes.mean_over_processes(float(value))


def add_values(
    found: dict[str, float],
    evaluators: Iterable[Evaluator],
    objective: BiEncoderObjective,
    *,
    step: int,
) -> None:
    """Adds the values of evaluators to those that were found.

    Raises:
        ValueError: there is a value of the same name already.
    """
    for evaluator in evaluators:
        for name, value in evaluator.evaluate(objective, step=step).items():
            if name in found:
                raise ValueError(
                    f"RetrieverTrainer.evaluate: {type(evaluator).__name__} has a value named "
                    f"{name!r}, which is there already"
                )
            found[name] = float(value)
