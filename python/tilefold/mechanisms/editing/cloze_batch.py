"""Batches of the prompts of edits: tokens, where subjects end, and where objects are predicted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from ...data.cloze_facts import MASK
from ...models import CausalLM, MaskedLM
from ..neurons.recorded_pass import Tokens
from .fact_edit import FactEdit

EditableLM = MaskedLM | CausalLM
_NO_TOKEN = -1


@dataclass(frozen=True)
class ClozeBatch:
    """All prompts of edits as one batch; rows are prompts, in the order of edits.

    Args:
        tokens: padded on the right. Of masked models the object's tokens are masks.
        edits: ``[n]`` number of each prompt's edit.
        subjects: ``[n, tokens]`` whether a token belongs to the subject.
        places: ``[n, k]`` the places whose logits predict the object, one for each of its tokens,
            -1 for none.
        objects: ``[n, k]`` ids of the object's tokens, -1 for none.
    """

    tokens: Tokens
    edits: Tensor
    subjects: Tensor
    places: Tensor
    objects: Tensor

    @property
    def last(self) -> Tensor:
        """Places of the last tokens of subjects, ``[n]``."""
        numbers = torch.arange(self.subjects.shape[1], device=self.subjects.device)
        return (self.subjects * numbers).argmax(1)

    def at_subjects(self, x: Tensor) -> Tensor:
        """Returns activations of the last tokens of subjects, ``[n, width]``.

        Args:
            x: ``[n, tokens, width]``, or flattened over prompts and tokens, as in OPT.
        """
        n, length = self.subjects.shape
        return x.reshape(n, length, -1)[torch.arange(n, device=x.device), self.last]

    def mean_by_edit(self, values: Tensor) -> Tensor:
        """Averages values of prompts over those of each edit, ``[edits, ...]``.

        Args:
            values: ``[n, ...]``.
        """
        n_edits = int(self.edits.max()) + 1
        total = values.new_zeros(n_edits, *values.shape[1:]).index_add(0, self.edits, values)
        counts = torch.bincount(self.edits, minlength=n_edits).to(values.dtype)
        return total / counts.reshape(-1, *[1] * (values.ndim - 1))

    def without_subjects(self, mask_token: int | None) -> ClozeBatch:
        """Returns the same prompts with their subjects hidden.

        Args:
            mask_token: replaces the subjects' tokens; None excludes them from attention.
        """
        tokens = dict(self.tokens)
        if mask_token is None:
            tokens["attention_mask"] = tokens["attention_mask"].masked_fill(self.subjects, 0)
        else:
            tokens["input_ids"] = tokens["input_ids"].masked_fill(self.subjects, mask_token)
        return replace(self, tokens=tokens)

    def log_probabilities(
        self, model: EditableLM, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Computes log-probabilities of all words at the places of objects, ``[n, k, words]``.

        Differentiable.

        Args:
            model: the language model.
            weights: by name, to use in place of the model's own.
        """
        output: Any
        if weights is None:
            output = model(self.tokens)
        else:
            output = functional_call(model, dict(weights), (self.tokens,))
        logits: Tensor = output.logits
        rows = torch.arange(len(logits), device=logits.device)[:, None]
        return logits[rows, self.places.clamp(min=0)].float().log_softmax(-1)

    def log_likelihood(self, log_probabilities: Tensor) -> Tensor:
        """Computes the mean log-probability of the tokens of each prompt's object, ``[n]``.

        Args:
            log_probabilities: of `log_probabilities`.
        """
        own = log_probabilities.gather(2, self.objects.clamp(min=0)[..., None])[..., 0]
        return self.mean_over_tokens(own)

    def mean_over_tokens(self, values: Tensor) -> Tensor:
        """Averages values ``[n, k]`` over the tokens of each prompt's object."""
        is_token = self.objects >= 0
        return torch.where(is_token, values, 0).sum(1) / is_token.sum(1)

    def are_predicted(self, log_probabilities: Tensor) -> Tensor:
        """Returns whether every token of the object is the most probable one, ``[n]``."""
        return ((log_probabilities.argmax(2) == self.objects) | (self.objects < 0)).all(1)


def cloze_batch(op: str, model: EditableLM, edits: Sequence[FactEdit]) -> ClozeBatch:
    """Tokenizes the prompts of edits.

    Args:
        op: the public function, for messages.
        model: a masked or causal language model.
        edits: of facts.

    Raises:
        ValueError: an object that has a word which the tokenizer does not know; a prompt of a
            causal model with the object before the subject; more tokens than max_length.
    """
    if not isinstance(model, MaskedLM | CausalLM):
        raise TypeError(f"{op}: model must be a MaskedLM or CausalLM, got {type(model).__name__}")
    if not model.tokenizer.is_fast:
        raise ValueError(f"{op}: needs a fast tokenizer, which knows offsets")
    rows = [
        _row(op, model, number, edit, prompt)
        for number, edit in enumerate(edits)
        for prompt in edit.prompts
    ]
    tokens = model.pad([row.tokens for row in rows])
    length, k = tokens["input_ids"].shape[1], max(len(row.objects) for row in rows)
    subjects = torch.zeros(len(rows), length, dtype=torch.bool)
    places = torch.full((len(rows), k), _NO_TOKEN)
    objects = torch.full((len(rows), k), _NO_TOKEN)
    for number, row in enumerate(rows):
        subjects[number, row.subject] = True
        places[number, : len(row.places)] = torch.tensor(row.places)
        objects[number, : len(row.objects)] = torch.tensor(row.objects)
    numbers = torch.tensor([row.edit for row in rows])
    moved = (x.to(model.device) for x in (numbers, subjects, places, objects))
    return ClozeBatch(dict(tokens), *moved)


@dataclass(frozen=True)
class _Row:
    """A prompt: its tokens, and the places of subject and object."""

    edit: int
    tokens: dict[str, list[int]]
    subject: list[int]
    places: list[int]
    objects: list[int]


def _row(op: str, model: EditableLM, number: int, edit: FactEdit, prompt: str) -> _Row:
    before, after = prompt.split(MASK)
    begin = _place_of(edit.subject, prompt)
    causal = isinstance(model, CausalLM)
    if begin >= len(before):
        if causal:
            raise ValueError(
                f"{op}: a causal model reads no further than the object, which must come after the "
                f"subject {edit.subject!r}, got {prompt!r}"
            )
        begin += len(edit.object) - len(MASK)
    text = before + edit.object + ("" if causal else after)
    read: Any = model.tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids: list[int] = list(read["input_ids"])
    if len(ids) > model.max_length:
        raise ValueError(
            f"{op}: a prompt has {len(ids)} tokens, more than max_length {model.max_length}: "
            f"{prompt!r:.60}"
        )
    subject = _overlapping(read["offset_mapping"], begin, begin + len(edit.subject))
    found = _overlapping(read["offset_mapping"], len(before), len(before) + len(edit.object))
    objects = [ids[place] for place in found]
    if not objects or model.tokenizer.unk_token_id in objects:
        raise ValueError(f"{op}: the tokenizer does not know the object {edit.object!r}")
    if not subject or set(subject) & set(found):
        raise ValueError(
            f"{op}: subject {edit.subject!r} and object {edit.object!r} must have tokens of their "
            f"own in {prompt!r}"
        )
    places = found
    if causal:
        places = [place - 1 for place in found]
    else:
        for place in found:
            ids[place] = model.tokenizer.mask_token_id
    tokens = {name: list(read[name]) for name in read if name != "offset_mapping"}
    return _Row(number, {**tokens, "input_ids": ids}, subject, places, objects)


def _place_of(subject: str, prompt: str) -> int:
    """Returns where a subject begins in a prompt, if possible as whole words."""
    whole = re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)
    return prompt.index(subject) if whole is None else whole.start()


def _overlapping(offsets: Sequence[tuple[int, int]], begin: int, end: int) -> list[int]:
    """Returns the places of the tokens that have characters of a span."""
    return [place for place, (start, stop) in enumerate(offsets) if start < end and stop > begin]
