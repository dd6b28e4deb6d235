"""Checks that a computed edit does what it is required to do, on the edited model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...models.length_batches import evaluating
from .applied_edit import edit
from .cloze_batch import EditableLM, cloze_batch
from .fact_edit import FactEdit
from .output_shifts import check_reached
from .weight_delta import WeightDelta


def checked_delta(
    op: str,
    model: EditableLM,
    delta: WeightDelta,
    edits: Sequence[FactEdit],
    required: float | None,
    names: Sequence[tuple[str, str]],
) -> WeightDelta:
    """Returns a delta whose edits reach the required probability, all of them applied at once.

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
    check_reached(op, edits, batch.mean_by_edit(likelihood.exp()), required)
    return delta
