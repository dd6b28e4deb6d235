"""Questions with the answers that count as right, in the formats of open-domain QA."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .formats import checked_format
from .heads import has_records, records
from .lines import Place, StrPath
from .list_cells import decoded, parsed_list
from .records import Record
from .tables import rows

_COUNTS = ("s_pop", "o_pop")  # of PopQA: monthly page views of subject and object
_LISTS = ("possible_answers", "s_aliases", "o_aliases")  # lists in cells of PopQA
_ANSWERED = ("_id", "answers")
_RELATION = re.compile(r"P\d+")


@dataclass(frozen=True)
class Question:
    """A question and its answers; `metadata` holds the other fields under their names."""

    id: str
    question: str  # "" in a file of answers alone, whose ids are those of a collection's queries
    answers: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def popularity(self) -> int | None:
        """Monthly page views of the subject, where the file has them."""
        return self.metadata.get("s_pop")

    @property
    def relation(self) -> str | None:
        """Returns the relation that the question is about, where the file has it."""
        return self.metadata.get("prop")


def read_questions(path: StrPath, *, format: str | None = None) -> list[Question]:
    """Reads NQ-open, PopQA, DPR's questions, EntityQuestions or answers beside a collection.

    - NQ-open: JSON or a table with question and answer.
    - PopQA: its table, or JSON, with question, possible_answers and metadata.
    - DPR: a question, a tab, and answers as a list.
    - EntityQuestions: JSON or a table with question and answers; the name of the file, as
      P36.dev.json, gives the relation.
    - Answers: JSON with _id and answers, and any metadata.

    Lists in the cells of tables may be those of JSON, Python (as pandas writes them) or NumPy.

    Args:
        path: a file, also packed with gzip, or a folder, all files of which are read.
        format: one of "nq-open", "popqa", "dpr-qa", "entityquestions", "answers", to leave nothing
            to detection.

    Returns:
        Questions in the order of the file. Where it has no ids they are "0", "1", ..., and in a
        folder begin with the name of the file.

    Raises:
        ValueError: an unknown format, bad JSON, unknown or missing fields, a question without
            answers, a repeated id, an empty file: with file and line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "NQ-open.dev.jsonl"
    >>> _ = path.write_text('{"question": "who?", "answer": ["she", "her"]}')
    >>> read_questions(path)
    [Question(id='0', question='who?', answers=('she', 'her'), metadata={})]
    """
    if not Path(path).is_dir():
        return _read_file(Path(path), format, "")
    files = sorted(entry for entry in Path(path).iterdir() if entry.is_file())
    if not files:
        raise ValueError(f"{path}: the folder is empty")
    return [question for file in files for question in _read_file(file, format, f"{file.stem}-")]


def _read_file(path: Path, format: str | None, prefix: str) -> list[Question]:
    name = checked_format(path, format, ("questions",), "read_questions")
    first_lines: dict[str, int] = {}
    questions = []
    for number, (place, question) in enumerate(_READERS[name](path)):
        if not question.answers:
            place.fail(f"the question {question.question or question.id!r} has no answer")
        given = question.id or f"{prefix}{number}"
        if given in first_lines:
            place.fail(f"id {given!r} is already that of line {first_lines[given]}")
        first_lines[given] = place.line
        questions.append(Question(given, question.question, question.answers, question.metadata))
    if not questions:
        raise ValueError(f"{path}: the file is empty")
    return questions


# ---- formats -------------------------------------------------------------------------------------

_Found = Iterator[tuple[Place, Question]]


def _nq_open(path: Path) -> _Found:
    in_cells = not has_records(path)  # of a table, where a text may be a list
    for record in records(path):
        record.only(("question", "answer"))
        if in_cells:
            record = _with_list(record, "answer")
        one = isinstance(record.value("answer"), str)
        answers = [record.string("answer")] if one else record.strings("answer")
        yield record.place, Question("", record.string("question"), tuple(answers))


def _entity_questions(path: Path) -> _Found:
    in_cells = not has_records(path)
    relation = _RELATION.match(path.name)
    metadata = {"prop": relation[0]} if relation else {}
    for record in records(path):
        record.only(("question", "answers"))
        answers = tuple(_listed(record, in_cells=in_cells).strings("answers"))
        yield record.place, Question("", record.string("question"), answers, metadata)


def _answers(path: Path) -> _Found:
    in_cells = not has_records(path)
    for record in records(path):
        metadata = {name: value for name, value in record.fields.items() if name not in _ANSWERED}
        answers = tuple(_listed(record, in_cells=in_cells).strings("answers"))
        yield record.place, Question(record.identifier("_id"), "", answers, metadata)


def _with_list(record: Record, name: str) -> Record:
    """Returns the record with a list where a cell holds one; other cells are texts."""
    cell = record.string(name)
    found = parsed_list(cell)
    if found is None or not all(isinstance(item, str) for item in found):
        return decoded(record, name) if cell.startswith("[") else record
    return record._replace(fields={**record.fields, name: found})


def _listed(record: Record, *, in_cells: bool) -> Record:
    """Returns the record with its answers as a list, also where a cell of a table holds them."""
    return decoded(record, "answers") if in_cells else record


def _popqa(path: Path) -> _Found:
    for record in records(path):
        counts = {name: record.integer(name) for name in _COUNTS if record.has(name)}
        fields = decoded(record, *_LISTS)
        fields = fields._replace(fields={**fields.fields, **counts})
        kept = ("id", "question", "possible_answers")
        metadata = {name: value for name, value in fields.fields.items() if name not in kept}
        name = record.identifier("id") if record.has("id") else ""
        answers = tuple(fields.strings("possible_answers"))
        yield record.place, Question(name, record.string("question"), answers, metadata)


def _dpr(path: Path) -> _Found:
    for place, cells in rows(path, "\t"):
        if len(cells) != 2:
            place.fail(f"expected a question, a tab and its answers, got {len(cells)} cells")
        answers = decoded(Record(place, {"answers": cells[1]}), "answers").strings("answers")
        yield place, Question("", cells[0], tuple(answers))


_READERS: dict[str, Callable[[Path], _Found]] = {
    "nq-open": _nq_open,
    "popqa": _popqa,
    "dpr-qa": _dpr,
    "entityquestions": _entity_questions,
    "answers": _answers,
}
