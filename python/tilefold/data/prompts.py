"""Templates: the one place where titles are joined with texts, and prompts with queries.

Readers keep title, text, prompt and query in columns of their own. An encoder joins them by its own
`title_format` when it encodes; whoever asks a language model joins them by the template of its
prompt. One read of a corpus serves all of them:

>>> titles, texts = ["Rome"], ["A city."]
>>> document_texts(texts, titles, TITLE_TEXT_FORMAT)
['Title: Rome Text: A city.']
>>> document_texts(texts, titles, TEXT_FORMAT)
['A city.']
>>> questions = query_texts(["where?"], ["Answer the following question."], "{prompt}\\n{query}")
>>> format_columns("{text} {question}", text=texts, question=questions)
['A city. Answer the following question.\\nwhere?']
"""

from __future__ import annotations

import string
from collections.abc import Sequence

TITLE_FORMAT = "{title} {text}"  # as BEIR encodes documents
TEXT_FORMAT = "{text}"  # without the title, as a reader of retrieved passages gets it in AAR
# Yu et al., "Augmentation-Adapted Retriever Improves Generalization of Language Models as Generic
# Plug-In", ACL 2023: the documents that its retriever encodes.
TITLE_TEXT_FORMAT = "Title: {title} Text: {text}"
PROMPT_FORMAT = "{prompt} {query}"


def document_texts(
    texts: Sequence[str],
    titles: Sequence[str] | None = None,
    title_format: str = TITLE_FORMAT,
) -> Sequence[str]:
    """Joins the titles and texts of documents.

    A document without a title is its text alone, whatever the template. Where a title is joined,
    white space at both ends of the result is removed.

    Args:
        texts: n texts.
        titles: n titles, "" where there is none; None for no titles at all.
        title_format: a template of {title} and {text}, or of {text} alone.

    Returns:
        n texts; `texts` itself if no document has a title, which costs no copy of a corpus.

    Raises:
        ValueError: the template has other fields or lacks {text}; lengths differ.

    >>> document_texts(["A city.", "Untitled."], ["Rome", ""], "{title} [SEP] {text}")
    ['Rome [SEP] A city.', 'Untitled.']
    """
    check_title_format(title_format, "document_texts")
    _check_lengths("document_texts", texts=texts, titles=texts if titles is None else titles)
    if titles is None or not any(titles):
        return texts
    return [
        title_format.format(title=title, text=text).strip() if title else text
        for title, text in zip(titles, texts, strict=True)
    ]


def query_texts(
    queries: Sequence[str],
    prompts: Sequence[str] | None = None,
    query_format: str = PROMPT_FORMAT,
) -> Sequence[str]:
    """Joins the prompts (instructions) and texts of queries.

    A query without a prompt stands alone, whatever the template. Where a prompt is joined, white
    space at both ends of the result is removed.

    Args:
        queries: n texts.
        prompts: n prompts, "" where there is none; None for no prompts at all.
        query_format: a template of {prompt} and {query}, or of {query} alone.

    Returns:
        n texts; `queries` itself if no query has a prompt.

    Raises:
        ValueError: the template has other fields or lacks {query}; lengths differ.

    >>> query_texts(["who?", "where?"], ["Ask:", ""])
    ['Ask: who?', 'where?']
    """
    check_template(query_format, "prompt", "query", "query_texts: query_format")
    _check_lengths("query_texts", queries=queries, prompts=queries if prompts is None else prompts)
    if prompts is None or not any(prompts):
        return queries
    return [
        query_format.format(prompt=prompt, query=query).strip() if prompt else query
        for prompt, query in zip(prompts, queries, strict=True)
    ]


def format_columns(template: str, **columns: Sequence[str]) -> list[str]:
    """Fills a template with each row of some columns, such as the prompt of a language model.

    Args:
        template: has the name of each column as a field, and no others.
        **columns: texts, of equal lengths.

    Returns:
        A text for each row, exactly as the template has it.

    Raises:
        ValueError: the template cannot be parsed, or its fields are not the columns; lengths
            differ.

    >>> format_columns("Q: {query} A:", query=["who?", "where?"])
    ['Q: who? A:', 'Q: where? A:']
    """
    fields = _fields(template, "format_columns: template")
    if fields != set(columns):
        raise ValueError(
            f"format_columns: expected a template with the fields {sorted(columns)}, "
            f"got {sorted(fields)} in {template!r}"
        )
    _check_lengths("format_columns", **columns)
    rows = zip(*columns.values(), strict=True)
    return [template.format(**dict(zip(columns, row, strict=True))) for row in rows]


def check_title_format(title_format: str, op: str) -> None:
    """Raises ValueError unless the template has {text}, perhaps {title}, and nothing else."""
    check_template(title_format, "title", "text", f"{op}: title_format")


def check_template(template: str, first: str, second: str, argument: str) -> None:
    """Raises ValueError unless the template has the second field, perhaps the first, no others.

    Args:
        template: in the syntax of `str.format`.
        first, second: names of fields.
        argument: starts the message, as in "BiEncoder: title_format".
    """
    fields = _fields(template, argument)
    if second not in fields or not fields <= {first, second}:
        raise ValueError(
            f"{argument}: expected a template of {{{first}}} and {{{second}}}, got {template!r}"
        )


def _fields(template: str, argument: str) -> set[str]:
    try:
        return {name for _, name, *_ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ValueError(f"{argument}: cannot parse {template!r}: {error}") from error


def _check_lengths(op: str, **columns: Sequence[str]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = " but ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"{op}: expected columns of equal length, got {listed}")
