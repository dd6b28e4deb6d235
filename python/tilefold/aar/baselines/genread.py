"""GenRead: the LM writes a document about the question, and then answers with it as a passage."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.prompts import format_columns
from ..prompt_templates import POPQA_GENREAD_PROMPT
from ..targets.target_lm import TargetLM

GENERATED_TOKENS = 150  # of a document, in the code of AAR and of Adaptive Retrieval


def generated_passages(
    generator: TargetLM,
    questions: Sequence[str],
    *,
    template: str = POPQA_GENREAD_PROMPT,
    progress: bool | str = False,
) -> list[list[str]]:
    """Lets an LM write a document for each question, to be read in place of retrieved passages.

    The result goes where retrieved passages go: ``task.run(target, passages, n_passages=1)``. Runs
    of white space become single blanks, as the authors do with line breaks.

    Args:
        generator: writes documents. Give it ``max_new_tokens=150``, and ``first_line_only=False``
            where it has that option.
        questions: texts; for MMLU the prompts with their options, as in AAR.
        template: with the field {question}; `MMLU_GENREAD_PROMPT` for MMLU.
        progress: whether to show progress on stderr; a string labels it.

    Returns:
        For each question a list of one document, or an empty list, which is closed book, where the
        LM wrote nothing.

    Raises:
        ValueError: a template with other fields, or as of the generator.

    Source: Yu et al., "Generate rather than Retrieve", ICLR 2023.

    Example:
        >>> class Parrot:
        ...     def answer(self, questions, **options):
        ...         return [f"About {question}" for question in questions]
        >>> generated_passages(Parrot(), ["hens"], template="{question}")
        [['About hens']]
    """
    prompts = format_columns(template, question=questions)
    label = progress if isinstance(progress, str) else progress and "generate documents"
    documents = [" ".join(text.split()) for text in generator.answer(prompts, progress=label)]
    return [[document] if document else [] for document in documents]
