"""Checks that an edited model gives objects the required probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...models.length_batches import evaluating
from .applied_edit import edit
from .cloze_batch import EditableLM, cloze_batch
from .fact_edit import FactEdit
from .weight_delta import WeightDelta


def checked_delta(
    op: str,
    model: EditableLM,
    delta: WeightDelta,
    edits: Sequence[FactEdit],
    required: float | None,
    names: Sequence[tuple[str, str]],
) -> WeightDelta:
    """Returns a delta, if its edits reach the required probability with all of them applied.

    Args:
        op: the public function, for the message.
        model: not edited.
        delta: of all edits.
        edits: facts to add or remove.
        required: mean probability of an object over its prompts, see `ShiftSearch`; None for any.
        names: see `feed_forwards`.

    Raises:
        ValueError: an edit that does not reach it.
    """
    if required is None:
        return delta
    batch = cloze_batch(op, model, edits)
    with edit(model, delta, names=names), evaluating(model), torch.no_grad():
        likelihood = batch.log_likelihood(batch.log_probabilities(model))
    _check_reached(op, edits, batch.mean_by_edit(likelihood.exp()), required)
    return delta


def _check_reached(
    op: str, edits: Sequence[FactEdit], probabilities: Tensor, required: float
) -> None:
    """Raises ValueError where edits miss the required probability."""
    missed = [
        f"{edit!r} {probability:.3f}"
        for edit, probability in zip(edits, probabilities.tolist(), strict=True)
        if (probability >= required if edit.remove else probability < required)
    ]
    if missed:
        raise ValueError(
            f"{op}: {len(missed)} of {len(edits)} edits do not reach the required probability of "
            f"their object, {required} or more, less where it is removed: {'; '.join(missed[:3])}"
        )
