"""Reads a source of any format: detects it and calls its reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .collection import Collection, read_collection
from .formats import FORMATS, detect
from .multiple_choice import MultipleChoice, read_choices
from .qrels import Judgments
from .qrels_reader import read_qrels
from .questions import Question, read_questions
from .runs import Run, read_run
from .training import read_training
from .training_set import TrainingSet

Data = TrainingSet | Collection | list[Question] | list[MultipleChoice] | Run | Judgments

_READERS: dict[str, Callable[..., Data]] = {
    "training": read_training,
    "collection": read_collection,
    "questions": read_questions,
    "choices": read_choices,
    "run": read_run,
    "qrels": read_qrels,
}


def read(source: Any, **options: Any) -> Data:
    """Reads a source of any supported format; the type of the result depends on its content.

    Where the same files can be read in two ways (a folder of BEIR, as a collection or to train on),
    call the intended reader.

    Args:
        source: a file, a folder, or a `datasets.Dataset`.
        options: those of the reader, such as `split`.

    Returns:
        A training set, a collection, questions, multiple-choice questions, a run or judgments, as
        `read_training`, `read_collection`, `read_questions`, `read_choices`, `read_run` or
        `read_qrels` returns it.

    Raises:
        ValueError: no format fits: the message has what was found and the formats. A bad line: the
            message has its file and number.
        TypeError: an option that the reader does not have.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "qrels.txt"
    >>> _ = path.write_text("q1 0 d7 1\\n")
    >>> read(path).qrels.gains
    array([1.])
    """
    reader = _READERS[FORMATS[detect(source)].kind]
    return reader(source, **options)
