r"""Prompt templates of AAR: the source LM, MMLU, PopQA, and passages in front of them.

Every template is filled by `tilefold.data.format_columns`, so its fields are checked.

Sources: Yu et al., "Augmentation-Adapted Retriever Improves Generalization of Language Models as
Generic Plug-In", ACL 2023, appendix A.3, and the authors' code; the wording of the source LM's and
of MMLU's prompt is that of promptsource (Bach et al., ACL 2022), templates
``trivia_qa/unfiltered: question_with_instruction`` and ``ai2_arc: heres_a_problem``.

>>> source_prompts(["who wrote Emma?"])
['Answer the following question.\nwho wrote Emma?']
>>> popqa_prompts(["who wrote Emma?"])
['Q: who wrote Emma? A:']
>>> fused_prompts(["Q: who? A:"], [["Jane Austen."]])
[['Jane Austen.Q: who? A:']]
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from ..data.prompts import format_columns
from ..integers import as_integer

SOURCE_PROMPT = "Answer the following question.\n{question}"
POPQA_PROMPT = "Q: {question} A:"
# promptsource renders a line with one blank between options, and strips the end of the prompt.
MMLU_PROMPT = (
    "Here's a problem to solve: {question}\n\n"
    "Among the {n_options} following options, which is the correct answer?\n\n{options}"
)
MMLU_OPTION = "- {letter}: {option}"
_BETWEEN_OPTIONS = "\n \n"
# Follows the prompt of MMLU where a decoder-only LM or an API completes it.
MMLU_GPT_SUFFIX = "\n\nAnswer:"
# GenRead's prompts as AAR's code has them: of PopQA by Mallen et al. (ACL 2023), and of MMLU.
POPQA_GENREAD_PROMPT = (
    "Generate a background document from Wikipedia to answer the given question. {question}"
)
MMLU_GENREAD_PROMPT = (
    "{question} Generate a background document from Wikipedia to help answer the given question:"
)
PASSAGE_CHARACTERS = 500  # of each passage that a fusion-in-decoder LM reads
# The passage comes first, without a title and without anything between it and the prompt.
FUSED_PROMPT = "{passage}{prompt}"
PASSAGE_SEPARATOR = "\n\n"  # between passages, and before the prompt, in concatenation


def source_prompts(questions: Sequence[str], template: str = SOURCE_PROMPT) -> list[str]:
    """Formats questions as prompts of the source LM.

    Args:
        questions: n texts.
        template: with the field {question}.

    Returns:
        n prompts.

    Raises:
        ValueError: a template with other fields.
    """
    return format_columns(template, question=questions)


def popqa_prompts(questions: Sequence[str], template: str = POPQA_PROMPT) -> list[str]:
    """Formats questions as prompts of PopQA; see `source_prompts`."""
    return format_columns(template, question=questions)


def genread_prompts(questions: Sequence[str], template: str = POPQA_GENREAD_PROMPT) -> list[str]:
    """Formats questions as prompts of GenRead, which a document follows; see `source_prompts`.

    Args:
        questions: n texts; of MMLU the prompts with their options, as in AAR.
        template: with the field {question}; `MMLU_GENREAD_PROMPT` for MMLU.
    """
    return format_columns(template, question=questions)


def option_letters(n: int) -> list[str]:
    """Returns the labels of n options: A, B, C, ....

    Raises:
        ValueError: n is below 1 or above 26.

    >>> option_letters(4)
    ['A', 'B', 'C', 'D']
    """
    if not 1 <= n <= len(string.ascii_uppercase):
        raise ValueError(f"option_letters: expected 1 to 26 options, got {n}")
    return list(string.ascii_uppercase[:n])


def mmlu_prompts(questions: Sequence[str], options: Sequence[Sequence[str]]) -> list[str]:
    r"""Formats multiple-choice questions as prompts whose answer is a letter.

    promptsource cuts a question or an option at 2,048 characters; here they are whole.

    Args:
        questions: n texts.
        options: of each question, 26 at most.

    Returns:
        n prompts.

    Raises:
        ValueError: lengths differ; a question without options or with more than 26.

    >>> print(mmlu_prompts(["1 + 1?"], [["1", "2"]])[0])
    Here's a problem to solve: 1 + 1?
    <BLANKLINE>
    Among the 2 following options, which is the correct answer?
    <BLANKLINE>
    - A: 1
    <BLANKLINE>
    - B: 2
    """
    if len(questions) != len(options):
        raise ValueError(
            f"mmlu_prompts: expected options of each question, got {len(options)} lists and "
            f"{len(questions)} questions"
        )
    listed = [
        _BETWEEN_OPTIONS.join(
            format_columns(MMLU_OPTION, letter=option_letters(len(own)), option=own)
        )
        for own in options
    ]
    counts = [str(len(own)) for own in options]
    prompts = format_columns(MMLU_PROMPT, question=questions, n_options=counts, options=listed)
    return [prompt.strip() for prompt in prompts]


def clipped(passages: Sequence[str], characters: int | None, op: str = "clipped") -> list[str]:
    """Returns the first characters of each passage.

    Args:
        passages: texts.
        characters: maximum number of characters; None keeps passages whole.
        op: of the caller, for messages.

    Raises:
        TypeError, ValueError: characters is no integer of at least 1.

    >>> clipped(["abcdef", "ab"], 3)
    ['abc', 'ab']
    """
    if characters is None:
        return list(passages)
    limit = as_integer(characters, op, "passage_characters", at_least=1)
    return [passage[:limit] for passage in passages]


def fused_prompts(
    prompts: Sequence[str],
    passages: Sequence[Sequence[str]],
    characters: int | None = PASSAGE_CHARACTERS,
    template: str = FUSED_PROMPT,
) -> list[list[str]]:
    """Puts each passage of a question in front of its prompt, for fusion in decoder.

    Args:
        prompts: n texts.
        passages: of each prompt; one without passages is a list of the prompt alone (closed book).
        characters: of a passage that are read; None for all.
        template: with the fields {passage} and {prompt}.

    Returns:
        For each prompt the texts that the encoder reads.

    Raises:
        ValueError: not one list of passages for each prompt; a template with other fields.
    """
    if len(prompts) != len(passages):
        raise ValueError(
            f"fused_prompts: expected passages of each prompt, got {len(passages)} lists and "
            f"{len(prompts)} prompts"
        )
    format_columns(template, passage=[], prompt=[])  # checks the template, also in a closed book
    return [
        format_columns(
            template,
            passage=clipped(own, characters, "fused_prompts"),
            prompt=[prompt] * len(own),
        )
        or [prompt]
        for prompt, own in zip(prompts, passages, strict=True)
    ]
