"""Scores passages by the likelihood of answers, as teacher of a retriever (alignment A3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import TrainingSet
from ..models import CausalLM
from ..ragged_lists import Lists
from .generation.reading_template import ReadingTemplate, reading_template

_OP = "likelihood_teacher"


def likelihood_teacher(
    model: CausalLM,
    data: TrainingSet,
    *,
    template: ReadingTemplate | str = "author",
    batch_size: int = 32,
    progress: bool | str = False,
) -> TrainingSet:
    """Gives every listed passage the log-likelihood of the query's answer as a teacher's score.

    The score is the mean over the tokens of the first answer, given the prompt with the passage
    alone. `DistillationObjective` with a teacher temperature g then trains a retriever towards
    ``p(d | q) = softmax(log p(y | d, q) / g)``.

    Args:
        model: the language model, without the adapter that is to be trained.
        data: queries with answers; its positives and negatives are scored.
        template: of the prompt.
        batch_size: prompts in a forward pass.
        progress: whether to show progress on stderr; a string labels it.

    Returns:
        The same data with `positive_scores` and `negative_scores`.

    Raises:
        ValueError: a query without an answer; a prompt that is too long for the model.

    Source: Shi et al., REPLUG (NAACL 2024), section 4.2; Lin et al., RA-DIT (ICLR 2024).

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> lists = Lists.pack([[0]]), Lists.pack([[1]])
        >>> data = TrainingSet(["q"], ["who?"], ["a", "b"], ["Ann.", "Bob."], *lists, [("Ann",)])
        >>> likelihood_teacher(model, data).negative_scores.shape
        (1,)
    """
    unanswered = [name for name, own in zip(data.query_ids, data.answers, strict=True) if not own]
    if unanswered:
        raise ValueError(
            f"{_OP}: expected an answer of every query, got none of {len(unanswered)}; the first "
            f"is {unanswered[0]!r}"
        )
    form = reading_template(template)

    def scores(lists: Lists) -> NDArray[np.float64]:
        queries = lists.owners().tolist()
        prompts = [
            form.prompt(data.queries[query], [data.documents[row]])
            for query, row in zip(queries, lists.indices.tolist(), strict=True)
        ]
        answers = [form.answer_prefix + data.answers[query][0] for query in queries]
        options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
        return model.log_likelihood(prompts, answers, **options).mean.astype(np.float64)

    return replace(
        data,
        positive_scores=scores(data.positives),
        negative_scores=scores(data.negatives),
    )
