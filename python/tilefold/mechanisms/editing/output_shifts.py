"""Searches what to add to a layer's output at a subject, so that a fact is added or removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...activations.patching import patch
from ...data.cloze_facts import MASK
from ...models.length_batches import evaluating
from ..neurons.feedforward import FeedForward
from ..neurons.path_gradients import frozen
from .cloze_batch import ClozeBatch, EditableLM, cloze_batch
from .edit_losses import divergence, edit_losses, hidden_subjects
from .fact_edit import FactEdit


@dataclass(frozen=True)
class ShiftSearch:
    """Search for the output of a layer that makes a model state a fact; ROME's, with its values.

    The loss of Meng et al. (2022, equation 4): the negative log-likelihood of the object, a KL
    divergence that keeps what the model predicts of the subject's kind, and a penalty of the size.
    To remove a fact, the first term is the KL divergence from the model's distribution where the
    subject is hidden, as of somebody unknown. Unlike the published code, the search returns the
    shift of the lowest loss, not the last one, and neither its rate nor its penalty depend on the
    scale of a model's activations.

    Args:
        steps: of Adam.
        learning_rate: of Adam, where 1 is the root mean square of the output's coordinates.
        kl_weight: weight of the divergence on the essence prompt.
        essence: the prompt, with ``{}`` for the subject; None for no such term.
        penalty: weight of the norm of the shift, as a multiple of the output's.
        largest: maximum norm of the shift, as a multiple of the output's norm.
        stop_loss: the search ends where the losses of all edits are smaller.
        required_probability: the mean probability of the object that the edited model must reach on
            the prompts, or, where it is removed, must fall below; None accepts any.
    """

    steps: int = 20
    learning_rate: float = 0.5
    kl_weight: float = 0.0625
    essence: str | None = f"{{}} is a {MASK}."
    penalty: float = 0.02
    largest: float = 4.0
    stop_loss: float = 0.05
    required_probability: float | None = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"ShiftSearch: steps must be at least 1, got {self.steps}")
        for name in ("learning_rate", "largest"):
            if not getattr(self, name) > 0:
                raise ValueError(f"ShiftSearch: {name} must be above 0, got {getattr(self, name)}")
        for name in ("kl_weight", "penalty", "stop_loss"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"ShiftSearch: {name} must be at least 0, got {getattr(self, name)}"
                )
        required = self.required_probability
        if required is not None and not 0 < required <= 1:
            raise ValueError(
                "ShiftSearch: required_probability must be above 0 and at most 1, or None, got "
                f"{required}"
            )
        if self.essence is not None and [self.essence.count(x) for x in ("{}", MASK)] != [1, 1]:
            raise ValueError(
                f"ShiftSearch: essence must have {{}} for the subject and {MASK}, once each, got "
                f"{self.essence!r}"
            )


class OutputShifts(NamedTuple):
    """The result of a search, by edit."""

    keys: Tensor  # [edits, neurons]: inputs of the output layer at subjects, means over prompts
    shifts: Tensor  # [edits, hidden]: to be added to its output
    probabilities: Tensor  # [edits] of objects, with the shifts


def output_shifts(
    op: str,
    model: EditableLM,
    part: FeedForward,
    edits: Sequence[FactEdit],
    search: ShiftSearch,
) -> OutputShifts:
    """Searches a shift for each edit, all of them at once.

    Args:
        op: the public function, for messages.
        model: a masked or causal language model.
        part: whose output is shifted.
        edits: facts to add or remove.
        search: its settings.

    Raises:
        ValueError: an object that the tokenizer does not know; an output that has no effect.
    """
    problem = _Search(op, model, part, edits, search)
    with frozen(model), torch.enable_grad():
        # One unit is the root mean square of the output's coordinates.
        units = problem.norms[:, None] / problem.outputs.shape[1] ** 0.5
        relative = torch.zeros_like(problem.outputs, requires_grad=True)
        optimizer = torch.optim.Adam([relative], lr=search.learning_rate)
        found = torch.zeros_like(problem.outputs)
        best = torch.full_like(problem.norms, torch.inf)
        for step in range(search.steps + 1):
            losses = problem.losses(relative * units)
            better = losses.detach() < best
            best = torch.where(better, losses.detach(), best)
            found = torch.where(better[:, None], relative.detach() * units, found)
            if step == search.steps or bool((best < search.stop_loss).all()):
                break
            (relative.grad,) = torch.autograd.grad(losses.sum(), relative)
            if step == 0 and not relative.grad.any():
                raise ValueError(
                    f"{op}: the output of layer {part.layer} at the subject has no effect on the "
                    "words predicted elsewhere, as that of the last layer; choose a lower one"
                )
            optimizer.step()
            with torch.no_grad():
                over = (relative * units).norm(dim=1) / (search.largest * problem.norms)
                relative /= over.clamp(min=1)[:, None]
        probabilities = problem.probabilities(found)
    return OutputShifts(problem.keys, found, probabilities)


class _Search:
    """The losses of shifts; what does not depend on the shifts is computed once."""

    def __init__(
        self,
        op: str,
        model: EditableLM,
        part: FeedForward,
        edits: Sequence[FactEdit],
        search: ShiftSearch,
    ) -> None:
        self._model, self._part, self._search = model, part, search
        self._batch = cloze_batch(op, model, edits)
        self._essence = _essence_batch(op, model, edits, search)
        self._removed = torch.tensor([edit.remove for edit in edits], device=model.device)
        with evaluating(model), torch.no_grad():
            self.keys, self.outputs = _recorded(model, part, self._batch)
            self._unspecific = hidden_subjects(model, self._batch).log_probabilities(model)
            if self._essence is not None:
                self._before = self._essence.log_probabilities(model)
        self.norms = self.outputs.norm(dim=1)

    def losses(self, shifts: Tensor) -> Tensor:
        """Returns the loss of each edit; differentiable."""
        batch = self._batch
        edited = self._shifted(batch, shifts)
        losses: Tensor = batch.mean_by_edit(
            edit_losses(batch, edited, self._unspecific, self._removed)
        )
        losses = losses + self._search.penalty * shifts.norm(dim=1) / self.norms
        if self._essence is not None:
            change = divergence(self._before, self._shifted(self._essence, shifts))
            change = self._essence.mean_over_tokens(change)
            losses = losses + self._search.kl_weight * self._essence.mean_by_edit(change)
        return losses

    def probabilities(self, shifts: Tensor) -> Tensor:
        """Returns the mean probability of each edit's object over its prompts."""
        with torch.no_grad():
            likelihood = self._batch.log_likelihood(self._shifted(self._batch, shifts))
            return self._batch.mean_by_edit(likelihood.exp())

    def _shifted(self, batch: ClozeBatch, shifts: Tensor) -> Tensor:
        """Returns log-probabilities with shifts added at subjects."""

        def add(x: Tensor) -> Tensor:
            n, length = batch.subjects.shape
            at_last = torch.zeros(n, length, 1, dtype=x.dtype, device=x.device)
            at_last[torch.arange(n, device=x.device), batch.last] = 1
            shifted = x.reshape(n, length, -1) + at_last * shifts[batch.edits, None].to(x.dtype)
            return shifted.reshape(x.shape)

        with patch(self._model, {self._part.output_name: add}):
            return batch.log_probabilities(self._model)


def _essence_batch(
    op: str, model: EditableLM, edits: Sequence[FactEdit], search: ShiftSearch
) -> ClozeBatch | None:
    if search.essence is None:
        return None
    prompts = [search.essence.replace("{}", edit.subject) for edit in edits]
    asked = [
        FactEdit(edit.subject, [prompt], edit.object)
        for edit, prompt in zip(edits, prompts, strict=True)
    ]
    return cloze_batch(op, model, asked)


def _recorded(model: EditableLM, part: FeedForward, batch: ClozeBatch) -> tuple[Tensor, Tensor]:
    """Returns inputs and outputs of a layer at subjects, means over the prompts of each edit."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def same(x: Tensor) -> Tensor:
            found[name] = batch.mean_by_edit(batch.at_subjects(x))
            return x

        return same

    sites = {f"{part.output_name}:input": keep("keys"), part.output_name: keep("outputs")}
    with patch(model, sites):  # type: ignore[arg-type]
        model(batch.tokens)
    return found["keys"], found["outputs"]
