"""Adds synthetic questions to a training set, and orders them by what a model knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data import TrainingSet
from ..mining import mine_bm25
from ..models import MaskedLM
from ..ragged_lists import Lists
from .synthetic_questions import SyntheticQuestions

_MASK = "[MASK]"


def exposed_training_set(
    data: TrainingSet, made: SyntheticQuestions, *, n_negatives: int = 4
) -> TrainingSet:
    """Adds synthetic questions behind the labelled ones, with hard negatives by BM25.

    A labelled question that was made, too, is not added again.

    Args:
        data: labelled questions and all documents; without scores of a teacher.
        made: questions about the same documents.
        n_negatives: hard negatives of a synthetic question: documents that BM25 ranks high, and
            that do not contain the answer where one is known.

    Raises:
        ImportError: bm25s is not installed.
        ValueError: data with scores, or documents that are not those of the data.

    Source: of the negatives, Karpukhin et al., "Dense Passage Retrieval", 2020, section 3.2.
    """
    if data.positive_scores is not None or data.negative_scores is not None:
        raise ValueError("exposed_training_set: the data have a teacher's scores, questions do not")
    if len(made) and made.documents.indices.max() >= len(data.documents):
        raise ValueError(
            f"exposed_training_set: documents must be 0 to {len(data.documents) - 1}, got "
            f"{made.documents.indices.max()}"
        )
    known = set(data.queries)
    new = made.take([row for row, text in enumerate(made.questions) if text not in known])
    if not len(new):
        return data

    def states(query: int, document: int) -> bool:
        answer = new.answers[query]
        return bool(answer) and answer in data.documents[document]

    mined = mine_bm25(
        new.questions,
        data.documents,
        new.documents,
        n_negatives=n_negatives,
        is_positive=states,
        titles=data.titles if any(data.titles) else None,
    )
    positives = _joined(data.positives, new.documents)
    negatives = _joined(data.negatives, mined.negatives)
    return replace(
        data,
        query_ids=[*data.query_ids, *(f"synthetic-{i}" for i in range(len(new)))],
        queries=[*data.queries, *new.questions],
        prompts=[*data.prompts, *[""] * len(new)],
        answers=[*data.answers, *((answer,) if answer else () for answer in new.answers)],
        positives=positives,
        negatives=negatives,
    )


def _joined(first: Lists, second: Lists) -> Lists:
    parts = [lists.of(row) for lists in (first, second) for row in range(len(lists.offsets) - 1)]
    return Lists.pack(parts)


def order_by_knowledge(
    made: SyntheticQuestions, model: MaskedLM, *, batch_size: int = 32
) -> NDArray[np.int64]:
    """Orders questions by the rank of their answers in a masked language model, unknown ones first.

    The rank is that of the answer's first token among all words at the mask of the question's
    cloze. Questions without a cloze or an answer come last; equal ones keep their order.

    Args:
        made: questions with answers and clozes.
        model: such as the base that a retriever is trained from.
        batch_size: texts in a forward pass.

    Returns:
        Rows of the questions, int64 ``[n]``.

    Source: an order of training samples by difficulty is curriculum learning (Bengio et al., 2009),
    here from hard to easy.
    """
    asked = [i for i in range(len(made)) if made.clozes[i] and made.answers[i]]
    ranks = np.zeros(len(made), np.int64)
    if asked:
        mask = model.tokenizer.mask_token
        prompts = [made.clozes[i].replace(_MASK, mask) for i in asked]
        logits = model.logits(prompts, batch_size=batch_size)
        ids = [
            model.tokenizer(made.answers[i], add_special_tokens=False)["input_ids"][0]
            for i in asked
        ]
        right = np.take_along_axis(logits, np.array(ids)[:, None], 1)
        ranks[asked] = 1 + (logits > right).sum(1)
    return np.argsort(-ranks, kind="stable")
