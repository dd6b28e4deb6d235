"""Chooses how many of the retrieved passages an LM reads, as in the experiments of AAR."""

from __future__ import annotations

from collections.abc import Sequence

from ...integers import as_integer
from ...models.length_batches import check_texts

# Passages that each LM reads in the paper's experiments, by the last part of its name; the scripts
# of ANCE-AAR (Yu et al., ACL 2023, and their code).
MMLU_PASSAGES = {
    "flan-t5-base": 2,
    "flan-t5-large": 6,
    "flan-t5-xl": 9,
    "text-davinci-002": 3,
}
MMLU_PASSAGES_OF_CONTRIEVER = 10  # a configuration of theirs sets it for all Flan-T5 models
POPQA_PASSAGES = 3  # for all LMs


def passages_to_read(
    op: str,
    retrieved: Sequence[Sequence[str]] | None,
    n_questions: int,
    n_passages: int | None,
) -> list[list[str]] | None:
    """Returns the first passages of each question, or None for closed book.

    Args:
        op: starts the messages.
        retrieved: texts of each question, best first; None for closed book.
        n_questions: that there must be.
        n_passages: of each question; one with fewer has all of its own.

    Raises:
        TypeError: passages that are no strings, or one string in place of a list.
        ValueError: not one list for each question, or no question has n_passages; n_passages
            without passages.
    """
    if retrieved is None:
        if n_passages:
            raise ValueError(f"{op}: n_passages is {n_passages}, but there are no passages")
        return None
    n = as_integer(n_passages, op, "n_passages", at_least=1)
    if len(retrieved) != n_questions:
        raise ValueError(
            f"{op}: expected passages of {n_questions} questions, got {len(retrieved)} lists"
        )
    for row, own in enumerate(retrieved):
        check_texts(own, op, f"passages of question {row}")
    longest = max(map(len, retrieved), default=n)
    if longest < n:
        raise ValueError(f"{op}: n_passages is {n}, but no question has more than {longest}")
    return [list(own[:n]) for own in retrieved]


def mmlu_passages(target: str, *, retriever: str = "ance") -> int | None:
    """Returns the number of passages that the paper gives an LM on MMLU, or None.

    Args:
        target: name of the LM, with or without its organization.
        retriever: "ance" or "contriever".

    Raises:
        ValueError: another retriever.

    >>> mmlu_passages("google/flan-t5-xl"), mmlu_passages("my-model")
    (9, None)
    >>> mmlu_passages("google/flan-t5-base", retriever="contriever")
    10
    """
    if retriever not in ("ance", "contriever"):
        raise ValueError(
            f"mmlu_passages: retriever must be 'ance' or 'contriever', got {retriever!r}"
        )
    name = target.rpartition("/")[2].lower()
    if retriever == "contriever" and name.startswith("flan-t5-"):
        return MMLU_PASSAGES_OF_CONTRIEVER if name in MMLU_PASSAGES else None
    return MMLU_PASSAGES.get(name)
