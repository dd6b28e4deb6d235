"""Multiple-choice questions: MMLU, ARC, CommonsenseQA."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .formats import checked_format
from .heads import has_records, head_of, records
from .lines import Place, StrPath
from .list_cells import decoded
from .records import Record
from .tables import rows

_SPLIT = re.compile(r"_(dev|test|val|train|auxiliary_train)$")
_MMLU_FIELDS = ("question", "subject", "answer")
# Of MMLU-Pro, beside question, options and answer.
_PRO_FIELDS = ("question_id", "answer_index", "cot_content", "category", "src")
_INSTRUCTION = re.compile(
    r"Please choose the correct answer to the question:\s*(?P<question>.*?)\s*"
    r"(?P<options>Answer1: .*?)\s*Answer format: (?P<labels>[\w/]+)\s*",
    re.DOTALL,
)


@dataclass(frozen=True)
class MultipleChoice:
    """A question, its options, and the row of the right one."""

    id: str
    question: str
    options: tuple[str, ...]
    answer: int  # index of the right option
    subject: str = ""  # of MMLU the subtask, of CommonsenseQA the concept


def read_choices(path: StrPath, *, format: str | None = None) -> list[MultipleChoice]:
    """Reads MMLU, ARC or CommonsenseQA.

    - MMLU: tables of question, options, and the right one as a letter, without a header; the name
      of the file gives the subject. Tables with a header, JSON or Parquet with question, answer (a
      letter or an index) and choices: a list, or a column for each. MMLU-Pro.
    - ARC and CommonsenseQA: JSON with answerKey and question, which has stem and choices.
    - Instructions: JSON with instruction, which has the options as "Answer1: ...", and answer.

    Args:
        path: a file, also packed with gzip, or a folder, all files of which are read.
        format: one of "mmlu", "arc", "instructions", to leave nothing to detection.

    Returns:
        Questions in the order of the file. Where it has no ids they are its name without the
        ending, and "-0", "-1", ....

    Raises:
        ValueError: an unknown format, a row or record that is not of it, an answer that is none of
            the options, a repeated id, an empty file: with file and line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "anatomy_dev.csv"
    >>> _ = path.write_text("Which is a bone?,Femur,Liver,Heart,Lung,A")
    >>> read_choices(path)[0].subject, read_choices(path)[0].answer
    ('anatomy', 0)
    """
    source = Path(path)
    files = [source]
    if source.is_dir():
        files = sorted(entry for entry in source.iterdir() if entry.is_file())
    if not files:
        raise ValueError(f"{path}: the folder is empty")
    return [choice for file in files for choice in _read_file(file, format)]


def _read_file(path: Path, format: str | None) -> list[MultipleChoice]:
    name = checked_format(path, format, ("choices",), "read_choices")
    first_lines: dict[str, int] = {}
    choices = []
    for number, (place, question) in enumerate(_READERS[name](path)):
        if not 0 <= question.answer < len(question.options):
            place.fail(f"the answer is none of the {len(question.options)} options")
        given = question.id or f"{path.name.partition('.')[0]}-{number}"
        if given in first_lines:
            place.fail(f"id {given!r} is already that of line {first_lines[given]}")
        first_lines[given] = place.line
        choices.append(replace(question, id=given))
    if not choices:
        raise ValueError(f"{path}: no questions")
    return choices


# ---- formats -------------------------------------------------------------------------------------

_Found = Iterator[tuple[Place, MultipleChoice]]


_OPTIONS = re.compile(r"choice\d+|[A-J]")


def _mmlu(path: Path) -> _Found:
    """Reads records with named fields, or rows in the order of the published tables."""
    if not (has_records(path) or _has_header(path)):
        return _mmlu_rows(path)
    subject = _SPLIT.sub("", path.name.partition(".")[0]) if not has_records(path) else ""
    return (_mmlu_record(record, subject) for record in records(path))


def _has_header(path: Path) -> bool:
    header = head_of(path).header
    return "question" in header and "answer" in header


def _mmlu_record(record: Record, subject: str) -> tuple[Place, MultipleChoice]:
    """Reads MMLU with one list of options or a column for each, or MMLU-Pro."""
    is_pro = "options" in record.fields
    apart = [name for name in record.fields if _OPTIONS.fullmatch(name)]
    listed = "options" if is_pro else "choices"
    named = apart if apart and listed not in record.fields else [listed]
    record.only((*_MMLU_FIELDS, *named, *(_PRO_FIELDS if is_pro else ())))
    if named == apart:
        options = tuple(record.string(name) for name in apart)
    else:
        options = tuple(decoded(record, listed).strings(listed))
    answer = _answer(record)
    if is_pro and record.integer("answer_index") != answer:
        record.fail(f"'answer_index' is not that of 'answer', {record.value('answer')!r}")
    name = record.identifier("question_id") if is_pro else ""
    subject = record.optional("category" if is_pro else "subject") or subject
    question = MultipleChoice(name, record.string("question"), options, answer, subject)
    return record.place, question


def _answer(record: Record) -> int:
    """Returns the row of the right option, which is a letter or an index."""
    value = record.value("answer")
    return _index(record.place, value) if isinstance(value, str) else record.integer("answer")


def _mmlu_rows(path: Path) -> _Found:
    subject = _SPLIT.sub("", path.name.partition(".")[0])
    width = 0
    for place, cells in rows(path, ","):
        width = width or len(cells)
        if len(cells) != width or width < 4:
            place.fail(
                f"expected a question, {max(width - 2, 2)} options and an answer, got {cells}"
            )
        question, *options, answer = cells
        yield place, MultipleChoice("", question, tuple(options), _index(place, answer), subject)


def _index(place: Place, answer: str) -> int:
    """Parses a label such as "A" or "0" into the row of an option."""
    text = answer.strip()
    if text.isdecimal():
        return int(text)
    if len(text) == 1 and text in string.ascii_uppercase:
        return string.ascii_uppercase.index(text)
    place.fail(f"the answer must be a letter or an index, got {answer!r}")


def _arc(path: Path) -> _Found:
    for record in records(path):
        record.only(("id", "question", "answerKey"))
        question = record.record("question")
        question.only(("stem", "choices", "question_concept"))
        options = question.records("choices")
        labels = [option.identifier("label") for option in options]
        answer = record.identifier("answerKey")
        if answer not in labels:
            record.fail(f"'answerKey' is {answer!r}, but the options are {labels}")
        yield (
            record.place,
            MultipleChoice(
                record.identifier("id"),
                question.string("stem"),
                tuple(option.string("text") for option in options),
                labels.index(answer),
                question.optional("question_concept"),
            ),
        )


def _instructions(path: Path) -> _Found:
    for record in records(path):
        record.only(("instruction", "input", "output", "answer"))
        match = _INSTRUCTION.fullmatch(record.string("instruction"))
        if match is None:
            record.fail("'instruction' is not a question with Answer1: ... and an Answer format")
        labels = match["labels"].split("/")
        options = _options(match["options"], len(labels))
        answer = record.string("answer")
        if len(options) != len(labels) or answer not in labels:
            record.fail(f"'answer' is {answer!r}, but the options are {labels}: {options}")
        found = MultipleChoice("", match["question"], options, labels.index(answer))
        yield record.place, found


def _options(text: str, n: int) -> tuple[str, ...]:
    """Returns the texts that follow Answer1:, Answer2:, ... in turn."""
    labels = (rf"Answer{number}: " for number in range(1, n + 1))
    match = re.fullmatch(r"\s+".join(f"{label}(.*?)" for label in labels), text, re.DOTALL)
    return match.groups() if match else ()


_READERS: dict[str, Callable[[Path], _Found]] = {
    "mmlu": _mmlu,
    "arc": _arc,
    "instructions": _instructions,
}
