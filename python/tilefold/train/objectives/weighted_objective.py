"""Sums objectives over one model, with weights that may follow a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..batches import Batch
from ..schedule import Schedule
from .objective import BiEncoderObjective, ObjectiveLoss
from .summed_losses import SummedLosses


class WeightedObjective(BiEncoderObjective):
    """A weighted sum of objectives that train the same model.

    Every text is encoded once, however many objectives use its embeddings. A schedule is evaluated
    at the optimizer step of the batch (`Batch.step`). The log gets each objective's loss under its
    name, and its weight under ``NAME_weight``. An objective whose weight is 0 at a step is not
    computed at it. Gradients of embeddings are computed with the losses, one objective after the
    other, so that memory is that of two of these gradients, however many objectives there are.

    Args:
        objectives: by name, all of the same model.
        weights: a schedule or a number for each; 1 where there is none.

    Raises:
        ValueError: no objective, objectives of different models, a weight for an unknown name, a
            weight that can be negative or is 0 at every step, steps at which all weights are 0.

    Example:
        Contrastive training with an invariance term whose weight rises over 1000 steps::

            WeightedObjective(
                {"contrastive": contrastive, "invariance": invariance},
                {"invariance": Schedule(0.5, start=0.0, steps=1000, shape="linear")},
            )
    """

    def __init__(
        self,
        objectives: Mapping[str, BiEncoderObjective],
        weights: Mapping[str, Schedule | float] | None = None,
    ) -> None:
        for name, objective in objectives.items():
            if not isinstance(objective, BiEncoderObjective):
                raise TypeError(
                    f"WeightedObjective: {name} must be an objective of a BiEncoder, "
                    f"got {type(objective).__name__}"
                )
        models = {id(objective.model): objective.model for objective in objectives.values()}
        if len(models) != 1:
            raise ValueError(
                f"WeightedObjective: expected objectives of one model, got {len(models)} models"
            )
        super().__init__(next(iter(models.values())))
        schedules = {name: _schedule(weight) for name, weight in (weights or {}).items()}
        unknown = sorted(schedules.keys() - objectives.keys())
        if unknown:
            raise ValueError(
                f"WeightedObjective: weights must be of {', '.join(objectives)}, got {unknown[0]!r}"
            )
        for name, weight in schedules.items():
            if weight.is_zero:
                raise ValueError(
                    f"WeightedObjective: the weight of {name} must be positive at some step, "
                    f"got {weight}"
                )
        self.objectives = nn.ModuleDict(objectives)
        self.weights = {name: schedules.get(name, Schedule(1.0)) for name in objectives}
        # Weights are monotonic, so if all of them are 0 anywhere, they are at the first step or in
        # the end.
        for step in (0, max(weight.delay + weight.steps for weight in self.weights.values())):
            if not any(weight(step) for weight in self.weights.values()):
                raise ValueError(
                    f"WeightedObjective: every weight is 0 at step {step}; one objective needs a "
                    "weight above 0 at each step"
                )

    def sides(self, batch: Batch) -> dict[str, Sequence[str]]:
        """Returns the texts of all objectives that have a weight at the batch's step."""
        merged: dict[str, Sequence[str]] = {}
        for name, objective in self._objectives().items():
            if self.weights[name](batch.step):
                merged.update(objective.sides(batch))
        return merged

    def loss_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of all losses, each once."""
        objectives = self._objectives().values()
        return list(dict.fromkeys(p for each in objectives for p in each.loss_parameters()))

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the weighted sum of the losses of a batch, and its gradients if there are any.

        Args:
            batch: as the objectives need it.
            embeddings: of all `sides`.
        """
        objectives = self._objectives()
        weights = {name: self.weights[name](batch.step) for name in objectives}
        summed = SummedLosses(embeddings)
        losses: dict[str, ObjectiveLoss] = {}
        # The order in which autograd adds gradients: those of the last objective first.
        for name in reversed([name for name, weight in weights.items() if weight]):
            value, terms = objectives[name].compute_loss(batch, summed.embeddings)
            summed.add(weights[name] * value)
            losses[name] = ObjectiveLoss(value.detach(), terms)
        value = torch.stack([weights[n] * losses[n].value for n in objectives if n in losses]).sum()
        return ObjectiveLoss(summed.with_gradients(value), _terms(weights, losses))

    def _objectives(self) -> dict[str, BiEncoderObjective]:
        # A ModuleDict knows its modules as nn.Module only.
        return cast("dict[str, BiEncoderObjective]", dict(self.objectives.items()))


def _schedule(weight: Schedule | float) -> Schedule:
    return weight if isinstance(weight, Schedule) else Schedule(weight)


def _terms(weights: Mapping[str, float], losses: Mapping[str, ObjectiveLoss]) -> dict[str, Tensor]:
    """Returns the weights of all objectives, and the losses and terms of those that have one."""
    terms: dict[str, Tensor] = {}
    for name, weight in weights.items():
        terms[f"{name}_weight"] = torch.tensor(weight, dtype=torch.float64)
        if name in losses:
            terms |= {f"{name}_{term}": value for term, value in losses[name].terms.items()}
            terms[name] = losses[name].value
    return terms
