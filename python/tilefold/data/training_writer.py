"""write_training(): writes training data for others to train on, or refuses before it begins."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from ..data import dpr, tevatron
from ..files.atomic import replacing_text
from ..ragged_lists import Integers, Lists
from .lines import Place, StrPath
from .passages import Example, Passage
from .qrels import FloatArray
from .text_columns import is_text
from .training_set import TrainingSet


def write_training(
    path: StrPath, training: TrainingSet, *, format: Literal["tevatron", "dpr"] = "tevatron"
) -> None:
    """Writes training data, which `read_training` reads back into the same columns.

    - Tevatron's JSON lines, with a prompt and a teacher's scores as fields "prompt" and "score".
    - DPR's JSON array, with negatives as hard_negative_ctxs. It has no place for prompts, nor for a
      teacher's scores.

    Documents that no query lists are not written, so those that are may have other rows when read.
    The file appears whole or not at all.

    Args:
        path: file to write; an existing one is replaced.
        training: what to write.
        format: "tevatron" or "dpr".

    Raises:
        ValueError: no query; an id that is empty or repeats; a text with half a surrogate pair; an
            infinite score; prompts or scores in DPR's format. Nothing is written then.
        TypeError: an id, text or answer that is no string.

    >>> import pathlib, tempfile
    >>> from tilefold.data import read_training
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "train.csv").write_text("anchor,positive\\nwho?,she\\n")
    >>> write_training(folder / "train.json", read_training(folder / "train.csv"), format="dpr")
    >>> read_training(folder / "train.json").documents
    ['she']
    """
    if format not in ("tevatron", "dpr"):
        raise ValueError(
            f"write_training: expected format to be 'tevatron' or 'dpr', got {format!r}"
        )
    _check(training)
    examples = (_example(training, row) for row in range(len(training)))
    if format == "tevatron":
        with replacing_text(path) as file:
            file.writelines(json.dumps(tevatron.fields_of(each)) + "\n" for each in examples)
        return
    _check_dpr(training)
    with replacing_text(path) as file:
        for number, each in enumerate(examples):
            file.write(",\n" if number else "[\n")
            file.write(json.dumps(dpr.fields_of(each)))
        file.write("\n]\n")


# ---- checks --------------------------------------------------------------------------------------


def _check(training: TrainingSet) -> None:
    """Refuses what the file could not give back."""
    if not len(training):
        raise ValueError("write_training: there is no query, and an empty file is no training data")
    listed = np.unique(np.concatenate([training.positives.indices, training.negatives.indices]))
    _check_ids("query_ids", training.query_ids)
    _check_ids("document_ids", [training.document_ids[row] for row in listed])
    for name, texts in _texts(training, listed):
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(
                    f"write_training: {name} must be strings, got {type(text).__name__}"
                )
            if not is_text(text):
                raise ValueError(
                    f"write_training: {name} have {text[:60]!r}, with half a surrogate pair"
                )
    for name in ("positive_scores", "negative_scores"):
        scores = getattr(training, name)
        if scores is not None and np.isinf(scores).any():
            raise ValueError(f"write_training: {name} must be finite, or NaN where there is none")


def _check_ids(name: str, ids: Sequence[str]) -> None:
    if not all(ids):
        raise ValueError(
            f"write_training: {name} must not be empty, as the one in row "
            f"{list(map(bool, ids)).index(False)} is"
        )
    if len(set(ids)) < len(ids):
        repeated = next(each for each, times in Counter(ids).items() if times > 1)
        raise ValueError(f"write_training: {name} must differ, but {repeated!r} repeats")


def _texts(training: TrainingSet, listed: Integers) -> Iterator[tuple[str, Iterator[str]]]:
    for name in ("query_ids", "queries", "prompts"):
        yield name, iter(getattr(training, name))
    for name in ("document_ids", "documents", "titles"):
        column = getattr(training, name)
        yield name, (column[row] for row in listed)
    yield "answers", (text for texts in training.answers for text in texts)


def _check_dpr(training: TrainingSet) -> None:
    if any(training.prompts):
        raise ValueError(
            "write_training: DPR's format has no prompts; join them with queries by joined(), or "
            "write format='tevatron'"
        )
    sides = (training.positive_scores, training.negative_scores)
    if any(scores is not None and not np.isnan(scores).all() for scores in sides):
        raise ValueError(
            "write_training: DPR's format has no scores of a teacher; replace them by None, or "
            "write format='tevatron'"
        )


# ---- records -------------------------------------------------------------------------------------


def _example(training: TrainingSet, row: int) -> Example:
    positives = _passages(training, training.positives, training.positive_scores, row)
    negatives = _passages(training, training.negatives, training.negative_scores, row)
    return Example(
        Place("", row),
        training.queries[row],
        positives,
        negatives,
        name=training.query_ids[row],
        prompt=training.prompts[row],
        answers=training.answers[row],
    )


def _passages(
    training: TrainingSet, lists: Lists, scores: FloatArray | None, row: int
) -> list[Passage]:
    places = slice(lists.offsets[row], lists.offsets[row + 1])
    documents = lists.indices[places].tolist()
    given = [math.nan] * len(documents) if scores is None else scores[places].tolist()
    return [
        Passage(
            training.documents[document],
            training.titles[document],
            training.document_ids[document],
            score,
        )
        for document, score in zip(documents, given, strict=True)
    ]
