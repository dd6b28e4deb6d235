r"""Builds the solved examples that an LM reads before a question.

An example of PopQA is its prompt and an answer; one of MMLU is its prompt, "Answer:" and a letter.
Examples are separated by blank lines, and another one follows the last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ...data import MultipleChoice, Question
from ...files.done_once import digest_of
from ...integers import as_integer
from ..prompt_templates import MMLU_GPT_SUFFIX, mmlu_prompts, option_letters, popqa_prompts

MMLU_EXAMPLES = 5  # of the development split, which has five of each subject
POPQA_EXAMPLES = 15  # one for each other relation of the sixteen
POPQA_SEED = 633  # of the authors' runs with GPT
_SEPARATOR = "\n\n"


def mmlu_demonstrations(
    questions: Sequence[MultipleChoice],
    examples: Sequence[MultipleChoice],
    *,
    n_examples: int = MMLU_EXAMPLES,
) -> list[str]:
    """Builds the first examples of each question's subject, in the order of their file.

    Args:
        questions: n questions.
        examples: of the development split.
        n_examples: of each question.

    Returns:
        n texts, each ending with a blank line.

    Raises:
        ValueError: a subject with fewer examples; a question that is itself an example.

    Source: Hendrycks et al., "Measuring Massive Multitask Language Understanding", ICLR 2021, for
    the number and the split.
    """
    op = "mmlu_demonstrations"
    as_integer(n_examples, op, "n_examples", at_least=1)
    of_subject: dict[str, list[MultipleChoice]] = defaultdict(list)
    for example in examples:
        of_subject[example.subject].append(example)
    known = {(example.question, example.options) for example in examples}
    written: dict[str, str] = {}
    for question in questions:
        if (question.question, question.options) in known:
            raise ValueError(f"{op}: the question {question.id!r} is one of the examples")
        own = of_subject[question.subject]
        if len(own) < n_examples:
            raise ValueError(
                f"{op}: expected {n_examples} examples of the subject {question.subject!r}, "
                f"got {len(own)}"
            )
        if question.subject not in written:
            written[question.subject] = _mmlu_text(own[:n_examples])
    return [written[question.subject] for question in questions]


def popqa_demonstrations(
    questions: Sequence[Question],
    pool: Sequence[Question],
    *,
    n_examples: int = POPQA_EXAMPLES,
    seed: int = POPQA_SEED,
) -> list[str]:
    """Draws examples of all relations but the question's own, the same number of each, shuffled.

    The draw for a question depends on the seed, its id and the pool alone, not on the other
    questions.

    Args:
        questions: n questions with relations.
        pool: questions to draw from, such as those of the data set itself, as the authors do.
        n_examples: of each question; a multiple of the number of other relations.
        seed: of the draw.

    Returns:
        n texts, each ending with a blank line.

    Raises:
        ValueError: a question without a relation; n_examples that is no multiple of the number of
            other relations in the pool, or more than a relation has.

    Source: Mallen et al., "When Not to Trust Language Models", ACL 2023, and their code.
    """
    op = "popqa_demonstrations"
    as_integer(n_examples, op, "n_examples", at_least=1)
    by_relation: dict[str, list[Question]] = defaultdict(list)
    for question in pool:
        by_relation[_relation(question, op)].append(question)
    return [
        _popqa_text(_drawn(question, by_relation, n_examples, seed, op)) for question in questions
    ]


def _drawn(
    question: Question,
    by_relation: Mapping[str, Sequence[Question]],
    n_examples: int,
    seed: int,
    op: str,
) -> list[Question]:
    others = sorted(set(by_relation) - {_relation(question, op)})
    if not others or n_examples % len(others):
        raise ValueError(
            f"{op}: n_examples must be a multiple of {len(others)}, the number of relations "
            f"besides that of {question.id!r}, got {n_examples}"
        )
    rng = np.random.default_rng([seed, int(digest_of(question.id), 16)])
    drawn = []
    for relation in others:
        own = by_relation[relation]
        each = n_examples // len(others)
        if len(own) < each:
            raise ValueError(
                f"{op}: expected {each} examples of the relation {relation!r}, got {len(own)}"
            )
        drawn += [own[place] for place in rng.choice(len(own), each, replace=False)]
    return [drawn[place] for place in rng.permutation(len(drawn))]


def _relation(question: Question, op: str) -> str:
    if question.relation is None:
        raise ValueError(f"{op}: the question {question.id!r} has no relation")
    return question.relation


def _mmlu_text(examples: Sequence[MultipleChoice]) -> str:
    prompts = mmlu_prompts([own.question for own in examples], [own.options for own in examples])
    solved = [
        f"{prompt}{MMLU_GPT_SUFFIX} {option_letters(len(own.options))[own.answer]}"
        for prompt, own in zip(prompts, examples, strict=True)
    ]
    return "".join(text + _SEPARATOR for text in solved)


def _popqa_text(examples: Sequence[Question]) -> str:
    prompts = popqa_prompts([own.question for own in examples])
    # The object's label in Wikidata, which PopQA's file has beside its aliases.
    labels = [own.metadata.get("obj") or own.answers[0] for own in examples]
    return "".join(
        f"{prompt} {label}{_SEPARATOR}" for prompt, label in zip(prompts, labels, strict=True)
    )
