"""Measures edits after all of them are made: on their prompts, on paraphrases, and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models.length_batches import evaluating
from ..neurons.feedforward import NAMES
from .applied_edit import edit
from .cloze_batch import ClozeBatch, EditableLM, cloze_batch
from .edit_losses import divergence
from .fact_edit import FactEdit
from .weight_delta import WeightDelta

Floats = NDArray[np.float64]
_PROMPTS = 256  # of a forward pass


class PromptEffects(NamedTuple):
    """What edits did to prompts, means over the prompts of each fact; float64 ``[facts]``."""

    success: Floats  # share of prompts that state the object, or where it is removed do not
    before: Floats  # probability of the object, the geometric mean of those of its tokens
    after: Floats
    unchanged: Floats  # share of prompts with the same most probable words as before
    divergence: Floats  # KL of the distributions before from those after


def edit_effects(
    model: EditableLM,
    delta: WeightDelta,
    facts: Sequence[FactEdit],
    *,
    names: Sequence[tuple[str, str]] = NAMES,
) -> PromptEffects:
    """Measures what an edit does to prompts, with all of its facts changed at once.

    On the prompts of the edits, `success` is reliability; on other wordings, generalization; on
    what follows from the facts, portability; and on facts that are not edited, `unchanged` is
    locality (Yao et al., "Editing Large Language Models", 2023, section 2).

    Args:
        model: a masked or causal language model, not edited.
        delta: of an editor.
        facts: prompts, and the objects that are expected after the edit, or with `remove` no more.
        names: see `feed_forwards`.

    Raises:
        ValueError: a delta for another model; no facts; an object that the tokenizer does not know.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> from tilefold.mechanisms import FactEdit, NeuronSurgery
        >>> from tilefold.models import MaskedLM, minilm
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 16}
        >>> config = BertConfig(vocab_size=30522, num_hidden_layers=2, **sizes)
        >>> model = MaskedLM(BertForMaskedLM(config), minilm().tokenizer)  # random weights
        >>> fact = FactEdit("Ada", ["Ada lives in [MASK]."], "rome", remove=True)
        >>> delta = NeuronSurgery(neurons=[{(0, 3)}]).delta(model, [fact])
        >>> edit_effects(model, delta, [fact]).success
        array([1.])
    """
    if not len(facts):
        raise ValueError("edit_effects: expected one fact or more, got none")
    parts = [cloze_batch("edit_effects", model, some) for some in _in_batches(facts)]
    with evaluating(model), torch.inference_mode():
        before = [part.log_probabilities(model) for part in parts]
        with edit(model, delta, names=names):
            after = [part.log_probabilities(model) for part in parts]
    found: list[list[Tensor]] = []
    removed = iter(facts)
    for part, one, other in zip(parts, before, after, strict=True):
        n = int(part.edits.max()) + 1
        no_more = torch.tensor([next(removed).remove for _ in range(n)], device=part.edits.device)
        found.append(_effects(part, one, other, no_more[part.edits]))
    columns = (torch.cat(column) for column in zip(*found, strict=True))
    return PromptEffects(*(column.double().cpu().numpy() for column in columns))


def _effects(batch: ClozeBatch, before: Tensor, after: Tensor, removed: Tensor) -> list[Tensor]:
    same = (before.argmax(2) == after.argmax(2)) | (batch.objects < 0)
    values = (
        batch.are_predicted(after) != removed,
        batch.log_likelihood(before).exp(),
        batch.log_likelihood(after).exp(),
        same.all(1),
        batch.mean_over_tokens(divergence(before, after)),
    )
    return [batch.mean_by_edit(value.double()) for value in values]


def _in_batches(facts: Sequence[FactEdit]) -> list[list[FactEdit]]:
    """Splits facts into batches of about as many prompts."""
    batches: list[list[FactEdit]] = [[]]
    total = 0
    for fact in facts:
        if batches[-1] and total + len(fact.prompts) > _PROMPTS:
            batches.append([])
            total = 0
        batches[-1].append(fact)
        total += len(fact.prompts)
    return batches
