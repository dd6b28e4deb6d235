"""GenRead: the LM writes a document about the question, and then answers with it as a passage."""

from __future__ import annotations

from collections.abc import Sequence

from ..prompt_templates import POPQA_GENREAD_PROMPT, genread_prompts
from ..targets.target_lm import TargetLM
from ..tasks import MmluTask, PopqaTask

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
        generator: writes documents, such as ``target.generator(150)``.
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
    return _written(generator, genread_prompts(questions, template), progress)


def task_documents(
    target: TargetLM,
    task: PopqaTask | MmluTask,
    *,
    max_new_tokens: int = GENERATED_TOKENS,
    progress: bool | str = False,
) -> list[list[str]]:
    """Lets a target LM write the documents with which it then answers a task.

    Equals `generated_passages` of ``target.generator(max_new_tokens)``, with the template of the
    task: ``task.run(target, task_documents(target, task), n_passages=1)`` is GenRead.

    Args:
        target: writes documents.
        task: its questions.
        max_new_tokens: maximum length of a document.
        progress: whether to show progress on stderr; a string labels it.

    Returns:
        As of `generated_passages`.

    Raises:
        TypeError, ValueError: as of ``target.generator``, and of the LM.

    Example:
        >>> from tilefold.data import Question
        >>> class Parrot:
        ...     def generator(self, max_new_tokens):
        ...         return self
        ...     def answer(self, questions, **options):
        ...         return [question.rpartition(". ")[2] for question in questions]
        >>> task_documents(Parrot(), PopqaTask((Question("0", "who wrote Emma?", ("Austen",)),)))
        [['who wrote Emma?']]
    """
    return _written(target.generator(max_new_tokens), task.document_prompts(), progress)


def _written(generator: TargetLM, prompts: Sequence[str], progress: bool | str) -> list[list[str]]:
    label = progress if isinstance(progress, str) else progress and "generate documents"
    documents = [" ".join(text.split()) for text in generator.answer(prompts, progress=label)]
    return [[document] if document else [] for document in documents]
